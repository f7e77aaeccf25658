// SPDX-License-Identifier: Apache-2.0
// System calls after which the recorder must not go on as before, in the place of the C library's
// functions. Each makes the program's call itself and gives its result.
#include "profiler/collector/recorder.h"
#include "profiler/collector/sandbox.h"

#if defined(__x86_64__)
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace preserve::collector {
namespace {

long system_call(long number, long a, long b, long c, long d, long e) {
  long result = number;
  register long fourth asm("r10") = d;
  register long fifth asm("r8") = e;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
               : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// A thread that has ended is counted by the kernel a moment longer.
long alone(long number, long a, long b) {
  constexpr int kTries = 100;
  pause_writer();
  long result = system_call(number, a, b, 0, 0, 0);
  for (int i = 0; i < kTries && result != 0 && (errno == EINVAL || errno == EUSERS); ++i) {
    const timespec moment{0, 100'000};
    system_call(SYS_nanosleep, reinterpret_cast<long>(&moment), 0, 0, 0, 0);
    result = system_call(number, a, b, 0, 0, 0);
  }
  const int error = errno;
  resume_writer();
  errno = error;
  return result;
}

void before_filter(long mode, const sock_fprog* filter, bool all_threads) {
  if (mode == SECCOMP_MODE_FILTER) obey(forbidden_by(filter), all_threads);
  if (mode != SECCOMP_MODE_STRICT) return;
  leave_tsc();  // the mode forbids it too
  mute_this_thread();
  obey({.calls = true, .writer = false, .start = true, .clock = true}, false);
}

}  // namespace

extern "C" __attribute__((visibility("hidden"))) long preserve_watched_call(long number, long a,
                                                                            long b, long c, long d,
                                                                            long e) {
  constexpr long kOneThread = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  switch (number) {
    case SYS_prctl:
      if (a == PR_SET_TSC && b == PR_TSC_SIGSEGV) leave_tsc();
      if (a == PR_SET_SECCOMP) before_filter(b, reinterpret_cast<const sock_fprog*>(c), false);
      break;
    case SYS_seccomp:
      if (a == SECCOMP_SET_MODE_STRICT) before_filter(SECCOMP_MODE_STRICT, nullptr, false);
      if (a == SECCOMP_SET_MODE_FILTER) {
        before_filter(SECCOMP_MODE_FILTER, reinterpret_cast<const sock_fprog*>(c),
                      (b & SECCOMP_FILTER_FLAG_TSYNC) != 0);
      }
      break;
    case SYS_unshare:
      if ((a & kOneThread) != 0) return alone(number, a, b);
      break;
    case SYS_setns:
      if (b == 0 || (b & (CLONE_NEWUSER | CLONE_NEWNS)) != 0) return alone(number, a, b);
      break;
    default:
      break;
  }
  return system_call(number, a, b, c, d, e);
}

}  // namespace preserve::collector

extern "C" {

using preserve::collector::preserve_watched_call;

__attribute__((visibility("default"))) int prctl(int option, ...) {
  va_list rest;
  va_start(rest, option);
  const long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long),
             d = va_arg(rest, long);
  va_end(rest);
  return static_cast<int>(preserve_watched_call(SYS_prctl, option, a, b, c, d));
}

__attribute__((visibility("default"))) int unshare(int flags) noexcept {
  return static_cast<int>(preserve_watched_call(SYS_unshare, flags, 0, 0, 0, 0));
}

__attribute__((visibility("default"))) int setns(int file, int type) noexcept {
  return static_cast<int>(preserve_watched_call(SYS_setns, file, type, 0, 0, 0));
}

}  // extern "C"

// syscall(): in assembler, since a call may come back on another stack, as the C library's does.
asm(R"(
  .text
  .globl syscall
  .type syscall, @function
syscall:
  endbr64
  cmpl $317, %edi  # seccomp
  je preserve_watched_call
  cmpl $157, %edi  # prctl
  je preserve_watched_call
  cmpl $272, %edi  # unshare
  je preserve_watched_call
  cmpl $308, %edi  # setns
  je preserve_watched_call
  movq %rdi, %rax
  movq %rsi, %rdi
  movq %rdx, %rsi
  movq %rcx, %rdx
  movq %r8, %r10
  movq %r9, %r8
  movq 8(%rsp), %r9
  syscall
  cmpq $-4095, %rax
  jae 1f
  ret
1:
  negl %eax
  pushq %rax
  call __errno_location@PLT
  popq %rcx
  movl %ecx, (%rax)
  movq $-1, %rax
  ret
  .size syscall, .-syscall
)");
static_assert(SYS_seccomp == 317 && SYS_prctl == 157 && SYS_unshare == 272 && SYS_setns == 308);
#endif
