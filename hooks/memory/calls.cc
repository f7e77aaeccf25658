// SPDX-License-Identifier: Apache-2.0
// Calls by which a program gets memory and gives it up. They cost something only while a listener
// wants to know. Not seen: an allocator inside the executable, and system calls made without the C
// library.
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hooks/listener.h"
#include "hooks/mpi/calls.h"
#include "hooks/next_of.h"

// The bounds of the module's own code, from the linker.
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" const char etext[] __attribute__((visibility("hidden")));

namespace preserve::hooks {
namespace {

// To look for it may free a message, which finds nullptr and stays.
void* find_unless_looking(const char* name) {
  static thread_local bool looking __attribute__((tls_model("initial-exec"))) = false;
  if (looking) return nullptr;
  looking = true;
  void* function = find_next(name);
  looking = false;
  return function;
}
template <SymbolName name, typename Function>
Function* next() {
  return next_of<name, Function, find_unless_looking>();
}

void goes(const void* begin, size_t bytes, int protection = PROT_NONE) {
  if (listener::memory_least_bytes() != SIZE_MAX) {
    listener::memory_goes(begin, bytes, protection);
  }
}

void block_goes(void* block) {
  const size_t least = listener::memory_least_bytes();
  if (__builtin_expect(least == SIZE_MAX, 1) || block == nullptr) return;
  const size_t bytes = ::malloc_usable_size(block);
  if (bytes >= least) listener::memory_goes(block, bytes, PROT_NONE);
}

// What this module or the MPI library gets for itself is no memory of the program.
bool is_programs(const void* caller) {
  return (caller < __ehdr_start || caller >= etext) && !inside_call();
}

void* block_came(void* block, size_t bytes, const void* caller) {
  if (__builtin_expect(bytes >= listener::memory_least_bytes(), 0) && block != nullptr &&
      is_programs(caller)) {
    listener::memory_came(block, bytes, PROT_READ | PROT_WRITE);
  }
  return block;
}

using Map = void*(void*, size_t, int, int, int, off_t);

void* map(Map* real, const void* caller, void* address, size_t bytes, int protection, int flags,
          int file, off_t offset) {
  const size_t least = listener::memory_least_bytes();
  if ((flags & MAP_FIXED) != 0) goes(address, bytes);
  void* memory = real != nullptr ? real(address, bytes, protection, flags, file, offset)
                                 : reinterpret_cast<void*>(::syscall(
                                       SYS_mmap, address, bytes, protection, flags, file, offset));
  if (__builtin_expect(bytes >= least, 0) && memory != MAP_FAILED && (flags & MAP_PRIVATE) != 0 &&
      is_programs(caller)) {
    listener::memory_came(memory, bytes, protection);
  }
  return memory;
}

}  // namespace
}  // namespace preserve::hooks

using namespace preserve;
using namespace preserve::hooks;

#define PRESERVE_VISIBLE extern "C" __attribute__((visibility("default")))

PRESERVE_VISIBLE void* malloc(size_t bytes) noexcept {
  auto* real = next<"malloc", void*(size_t)>();
  return real == nullptr ? nullptr : block_came(real(bytes), bytes, __builtin_return_address(0));
}

PRESERVE_VISIBLE void* calloc(size_t count, size_t size) noexcept {
  auto* real = next<"calloc", void*(size_t, size_t)>();
  return real == nullptr ? nullptr
                         : block_came(real(count, size), count * size, __builtin_return_address(0));
}

PRESERVE_VISIBLE int posix_memalign(void** block, size_t alignment, size_t bytes) noexcept {
  auto* real = next<"posix_memalign", int(void**, size_t, size_t)>();
  if (real == nullptr) return ENOMEM;
  const int error = real(block, alignment, bytes);
  if (error == 0) block_came(*block, bytes, __builtin_return_address(0));
  return error;
}

PRESERVE_VISIBLE void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  auto* real = next<"aligned_alloc", void*(size_t, size_t)>();
  return real == nullptr ? nullptr
                         : block_came(real(alignment, bytes), bytes, __builtin_return_address(0));
}

PRESERVE_VISIBLE void* memalign(size_t alignment, size_t bytes) noexcept {
  auto* real = next<"memalign", void*(size_t, size_t)>();
  return real == nullptr ? nullptr
                         : block_came(real(alignment, bytes), bytes, __builtin_return_address(0));
}

PRESERVE_VISIBLE void free(void* block) noexcept {
  block_goes(block);
  if (auto* real = next<"free", void(void*)>()) real(block);
}

PRESERVE_VISIBLE void* realloc(void* block, size_t bytes) noexcept {
  block_goes(block);
  auto* real = next<"realloc", void*(void*, size_t)>();
  return real == nullptr ? nullptr
                         : block_came(real(block, bytes), bytes, __builtin_return_address(0));
}

PRESERVE_VISIBLE int munmap(void* address, size_t bytes) noexcept {
  goes(address, bytes);
  if (auto* real = next<"munmap", int(void*, size_t)>()) return real(address, bytes);
  return static_cast<int>(::syscall(SYS_munmap, address, bytes));
}

PRESERVE_VISIBLE void* mremap(void* address, size_t bytes, size_t new_bytes, int flags,
                              ...) noexcept {
  void* target = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list more;
    va_start(more, flags);
    target = va_arg(more, void*);
    va_end(more);
    goes(target, new_bytes);
  }
  goes(address, bytes);
  if (auto* real = next<"mremap", void*(void*, size_t, size_t, int, ...)>())
    return real(address, bytes, new_bytes, flags, target);
  return reinterpret_cast<void*>(::syscall(SYS_mremap, address, bytes, new_bytes, flags, target));
}

PRESERVE_VISIBLE int mprotect(void* address, size_t bytes, int protection) noexcept {
  goes(address, bytes, protection);
  if (auto* real = next<"mprotect", int(void*, size_t, int)>())
    return real(address, bytes, protection);
  return static_cast<int>(::syscall(SYS_mprotect, address, bytes, protection));
}

// Its size is not said: everything behind it is looked for anew.
PRESERVE_VISIBLE int shmdt(const void* address) noexcept {
  goes(address, UINTPTR_MAX - reinterpret_cast<uintptr_t>(address));
  if (auto* real = next<"shmdt", int(const void*)>()) return real(address);
  return static_cast<int>(::syscall(SYS_shmdt, address));
}

PRESERVE_VISIBLE void* mmap(void* address, size_t bytes, int protection, int flags, int file,
                            off_t offset) noexcept {
  return map(next<"mmap", Map>(), __builtin_return_address(0), address, bytes, protection, flags,
             file, offset);
}

PRESERVE_VISIBLE void* mmap64(void* address, size_t bytes, int protection, int flags, int file,
                              off64_t offset) noexcept {
  return map(next<"mmap64", Map>(), __builtin_return_address(0), address, bytes, protection, flags,
             file, offset);
}
