// SPDX-License-Identifier: Apache-2.0
// The C library's functions that hand memory of the program to the kernel: for their time nothing
// is protected, or they would fail with EFAULT. Not covered: system calls made without the C
// library, asynchronous ones (io_uring), and what takes a name or a small structure that lies in a
// large allocation.
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hooks/next_of.h"
#include "profiler/collector/touch/pages.h"

using preserve::collector::touch::Pause;

// The function `name` as the C library declares it, with `failed` as its result where there is
// none.
#define PRESERVE_PAUSED(result, name, parameters, arguments, failed)         \
  extern "C" __attribute__((visibility("default"))) result name parameters { \
    auto* real = preserve::hooks::next_of<#name, result parameters>();       \
    if (real == nullptr) return errno = ENOSYS, failed;                      \
    const Pause pause(__builtin_return_address(0));                          \
    return real arguments;                                                   \
  }

PRESERVE_PAUSED(ssize_t, read, (int file, void* to, size_t bytes), (file, to, bytes), -1)
PRESERVE_PAUSED(ssize_t, pread, (int file, void* to, size_t bytes, off_t at), (file, to, bytes, at),
                -1)
PRESERVE_PAUSED(ssize_t, pread64, (int file, void* to, size_t bytes, off64_t at),
                (file, to, bytes, at), -1)
PRESERVE_PAUSED(ssize_t, readv, (int file, const iovec* to, int count), (file, to, count), -1)
PRESERVE_PAUSED(ssize_t, preadv, (int file, const iovec* to, int count, off_t at),
                (file, to, count, at), -1)
PRESERVE_PAUSED(ssize_t, preadv64, (int file, const iovec* to, int count, off64_t at),
                (file, to, count, at), -1)
PRESERVE_PAUSED(ssize_t, write, (int file, const void* from, size_t bytes), (file, from, bytes), -1)
PRESERVE_PAUSED(ssize_t, pwrite, (int file, const void* from, size_t bytes, off_t at),
                (file, from, bytes, at), -1)
PRESERVE_PAUSED(ssize_t, pwrite64, (int file, const void* from, size_t bytes, off64_t at),
                (file, from, bytes, at), -1)
PRESERVE_PAUSED(ssize_t, writev, (int file, const iovec* from, int count), (file, from, count), -1)
PRESERVE_PAUSED(ssize_t, pwritev, (int file, const iovec* from, int count, off_t at),
                (file, from, count, at), -1)
PRESERVE_PAUSED(ssize_t, pwritev64, (int file, const iovec* from, int count, off64_t at),
                (file, from, count, at), -1)
PRESERVE_PAUSED(ssize_t, send, (int socket, const void* from, size_t bytes, int flags),
                (socket, from, bytes, flags), -1)
PRESERVE_PAUSED(ssize_t, sendto,
                (int socket, const void* from, size_t bytes, int flags, const sockaddr* to,
                 socklen_t to_bytes),
                (socket, from, bytes, flags, to, to_bytes), -1)
PRESERVE_PAUSED(ssize_t, sendmsg, (int socket, const msghdr* message, int flags),
                (socket, message, flags), -1)
PRESERVE_PAUSED(ssize_t, recv, (int socket, void* to, size_t bytes, int flags),
                (socket, to, bytes, flags), -1)
PRESERVE_PAUSED(ssize_t, recvfrom,
                (int socket, void* to, size_t bytes, int flags, sockaddr* from,
                 socklen_t* from_bytes),
                (socket, to, bytes, flags, from, from_bytes), -1)
PRESERVE_PAUSED(ssize_t, recvmsg, (int socket, msghdr* message, int flags),
                (socket, message, flags), -1)
PRESERVE_PAUSED(ssize_t, getrandom, (void* to, size_t bytes, unsigned flags), (to, bytes, flags),
                -1)
PRESERVE_PAUSED(ssize_t, process_vm_readv,
                (pid_t process, const iovec* to, unsigned long to_count, const iovec* from,
                 unsigned long from_count, unsigned long flags),
                (process, to, to_count, from, from_count, flags), -1)
PRESERVE_PAUSED(ssize_t, process_vm_writev,
                (pid_t process, const iovec* from, unsigned long from_count, const iovec* to,
                 unsigned long to_count, unsigned long flags),
                (process, from, from_count, to, to_count, flags), -1)

// Large blocks go from and to the caller's memory directly.
PRESERVE_PAUSED(size_t, fread, (void* to, size_t size, size_t count, FILE* file),
                (to, size, count, file), 0)
PRESERVE_PAUSED(size_t, fwrite, (const void* from, size_t size, size_t count, FILE* file),
                (from, size, count, file), 0)
PRESERVE_PAUSED(size_t, fread_unlocked, (void* to, size_t size, size_t count, FILE* file),
                (to, size, count, file), 0)
PRESERVE_PAUSED(size_t, fwrite_unlocked, (const void* from, size_t size, size_t count, FILE* file),
                (from, size, count, file), 0)
PRESERVE_PAUSED(int, fputs, (const char* text, FILE* file), (text, file), EOF)

// Their arguments may lie anywhere. posix_spawn() shares memory with its child until that executes.
PRESERVE_PAUSED(int, execve, (const char* path, char* const arguments[], char* const names[]),
                (path, arguments, names), -1)
PRESERVE_PAUSED(int, execv, (const char* path, char* const arguments[]), (path, arguments), -1)
PRESERVE_PAUSED(int, execvp, (const char* file, char* const arguments[]), (file, arguments), -1)
PRESERVE_PAUSED(int, posix_spawn,
                (pid_t * child, const char* path, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const arguments[], char* const names[]),
                (child, path, actions, attributes, arguments, names), ENOSYS)
PRESERVE_PAUSED(int, posix_spawnp,
                (pid_t * child, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const arguments[], char* const names[]),
                (child, file, actions, attributes, arguments, names), ENOSYS)

// Drivers take addresses in here.
extern "C" __attribute__((visibility("default"))) int ioctl(int file, unsigned long request, ...) {
  auto* real = preserve::hooks::next_of<"ioctl", int(int, unsigned long, ...)>();
  if (real == nullptr) return errno = ENOSYS, -1;
  va_list more;
  va_start(more, request);
  void* argument = va_arg(more, void*);
  va_end(more);
  const Pause pause(__builtin_return_address(0));
  return real(file, request, argument);
}
