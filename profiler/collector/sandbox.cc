// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "hooks/unnoticed.h"
#include "profiler/collector/foreign_process.h"
#include "profiler/collector/state.h"

namespace preserve::collector {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#else
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// The result of a filter for a call whose arguments are all 0: the machine of the kernel's
// Documentation/networking/filter.rst, as far as seccomp allows it. Kill for what it does not know.
class Filter {
 public:
  explicit Filter(const sock_fprog& program) : program_(program) {}

  uint32_t of_call(int number) {
    data_ = {};
    data_.nr = number;
    data_.arch = kArchitecture;
    a_ = x_ = 0;
    std::memset(memory_, 0, sizeof(memory_));
    for (uint32_t at = 0; at < program_.len;) {
      const sock_filter& op = program_.filter[at++];
      switch (BPF_CLASS(op.code)) {
        case BPF_RET:
          return BPF_RVAL(op.code) == BPF_A ? a_ : op.k;
        case BPF_LD:
          a_ = loaded(op);
          break;
        case BPF_LDX:
          x_ = loaded(op);
          break;
        case BPF_ST:
          memory_[op.k % BPF_MEMWORDS] = a_;
          break;
        case BPF_STX:
          memory_[op.k % BPF_MEMWORDS] = x_;
          break;
        case BPF_ALU:
          compute(op);
          break;
        case BPF_JMP:
          at += jump(op);
          break;
        default:  // BPF_MISC
          BPF_MISCOP(op.code) == BPF_TXA ? a_ = x_ : x_ = a_;
      }
    }
    return SECCOMP_RET_KILL_PROCESS;
  }

 private:
  uint32_t loaded(const sock_filter& op) const {
    if (BPF_MODE(op.code) == BPF_IMM) return op.k;
    if (BPF_MODE(op.code) == BPF_MEM) return memory_[op.k % BPF_MEMWORDS];
    if (BPF_MODE(op.code) == BPF_LEN) return sizeof(data_);
    uint32_t word = 0;
    if (op.k <= sizeof(data_) - sizeof(word)) {
      std::memcpy(&word, reinterpret_cast<const char*>(&data_) + op.k, sizeof(word));
    }
    return word;
  }
  void compute(const sock_filter& op) {
    const uint32_t by = BPF_SRC(op.code) == BPF_X ? x_ : op.k;
    switch (BPF_OP(op.code)) {
      case BPF_ADD:
        a_ += by;
        break;
      case BPF_SUB:
        a_ -= by;
        break;
      case BPF_MUL:
        a_ *= by;
        break;
      case BPF_DIV:
        a_ = by == 0 ? 0 : a_ / by;
        break;
      case BPF_OR:
        a_ |= by;
        break;
      case BPF_AND:
        a_ &= by;
        break;
      case BPF_XOR:
        a_ ^= by;
        break;
      case BPF_LSH:
        a_ = by < 32 ? a_ << by : 0;
        break;
      case BPF_RSH:
        a_ = by < 32 ? a_ >> by : 0;
        break;
      default:
        a_ = 0 - a_;  // BPF_NEG
    }
  }
  uint32_t jump(const sock_filter& op) const {
    const uint32_t with = BPF_SRC(op.code) == BPF_X ? x_ : op.k;
    switch (BPF_OP(op.code)) {
      case BPF_JA:
        return op.k;
      case BPF_JEQ:
        return a_ == with ? op.jt : op.jf;
      case BPF_JGT:
        return a_ > with ? op.jt : op.jf;
      case BPF_JGE:
        return a_ >= with ? op.jt : op.jf;
      default:
        return (a_ & with) != 0 ? op.jt : op.jf;  // BPF_JSET
    }
  }

  const sock_fprog& program_;
  seccomp_data data_{};
  uint32_t a_ = 0, x_ = 0, memory_[BPF_MEMWORDS] = {};
};

bool stops(uint32_t result, bool refusal_too) {
  const uint32_t action = result & SECCOMP_RET_ACTION_FULL;
  if (action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG) return false;
  return action != SECCOMP_RET_ERRNO || refusal_too;
}

// For the writer thread to come to its end, on a busy machine too: a filter would end the process
// for what it does else. For its last system calls, which take microseconds.
constexpr int64_t kPatienceNs = 10'000'000'000, kEndPatienceNs = 1'000'000'000;

template <typename Condition>
void wait_until(const Condition& holds, int64_t patience_ns) {
  constexpr int64_t kSleepNs = 100'000;
  const int64_t give_up_ns = safe_monotonic_ns() + patience_ns;
  // The time may go on slowly where nobody may ask for it.
  for (int64_t left_ns = patience_ns; !holds() && left_ns > 0; left_ns -= kSleepNs) {
    if (safe_monotonic_ns() >= give_up_ns) return;
    ::usleep(kSleepNs / 1000);
  }
}

// Not in a child whose fork ran no handlers.
bool has_writer() {
  return g.run.load(std::memory_order_acquire) == kRunning && g.pid == ::getpid();
}

// Neither a counter nor a call is left that tells the time.
void live_without_time() {
  if (!asking_is_an_error.load() || !tsc_is_an_error.load()) return;
  g.start_forbidden.store(true);
  g.calls_forbidden.store(true);
}

}  // namespace

Forbidden forbidden_by(const sock_fprog* filter) {
  if (filter == nullptr || filter->filter == nullptr || filter->len == 0) return {};
  Filter machine(*filter);
  const auto any = [&machine](std::initializer_list<int> calls, bool refusal_too) {
    return std::any_of(calls.begin(), calls.end(),
                       [&](int call) { return stops(machine.of_call(call), refusal_too); });
  };
  Forbidden forbidden;
  forbidden.calls = any({SYS_futex, SYS_getpid, SYS_gettid, SYS_mmap, SYS_clock_nanosleep,
                         SYS_rt_sigprocmask, SYS_rt_sigtimedwait},
                        false) ||
                    any({SYS_futex, SYS_clock_nanosleep}, true);
  forbidden.clock = any({SYS_clock_gettime}, true);
  forbidden.stack = any({SYS_sigaltstack}, true);
  forbidden.writer =
      any({SYS_writev, SYS_fstat, SYS_newfstatat, SYS_ftruncate, SYS_pread64, SYS_close, SYS_exit,
           SYS_madvise, SYS_openat, SYS_fstatfs, SYS_clock_gettime, SYS_rename},
          false) ||
      (g.keep_last && any({SYS_fallocate, SYS_fcntl, SYS_lseek, SYS_pwrite64}, false)) ||
      any({SYS_futex, SYS_writev}, true);
  forbidden.start = forbidden.calls || forbidden.writer ||
                    any({SYS_openat, SYS_access, SYS_fcntl, SYS_fstat, SYS_newfstatat, SYS_close,
                         SYS_clone, SYS_clone3, SYS_mprotect, SYS_getppid, SYS_uname},
                        false);
  return forbidden;
}

// Reading the counter is an error from now on, by the C library's clock too. Times of the file stay
// in units of the counter: its rate is known from two moments.
void leave_tsc() {
  if (tsc_is_an_error.load(std::memory_order_relaxed)) return;
  const KeepErrno kept;
  if (ticks_are_tsc.load(std::memory_order_relaxed)) continue_without_tsc();
  tsc_is_an_error.store(true, std::memory_order_relaxed);
  live_without_time();
}

void obey(const Forbidden& forbidden, bool all_threads) {
  g.clock_forbidden.store(true);  // whatever the filter says of sockets
  if (all_threads && g.pid == ::getpid()) {  // also of a recording that is ending
    wait_until([] { return !g.clock_asked.load(); }, kPatienceNs);
  }
  if (forbidden.start) g.start_forbidden.store(true);
  if (forbidden.calls) g.calls_forbidden.store(true);
  if (forbidden.stack) Ring::may_ask.store(false);
  if (forbidden.clock && !asking_is_an_error.load()) {
    if (!ticks_are_tsc.load()) tsc_is_an_error.store(true);  // the C library may ask then
    (void)safe_monotonic_ns();
    asking_is_an_error.store(true);
    live_without_time();
  }
  if (!all_threads || !forbidden.writer) return;
  pause_writer();
  // Nobody may write any more; the file ends like that of a killed process.
  if (g.run.load(std::memory_order_acquire) == kRunning) g.run.store(kFailed);
}

void pause_writer() {
  if (!has_writer()) return;
  const Unnoticed unnoticed;
  g.pause_asked.store(true, std::memory_order_release);
  const auto left = [] { return g.writer_left.load(std::memory_order_acquire); };
  sem_post(&g.wake);
  wait_until(left, kPatienceNs);
  if (left()) wait_until(writer_has_ended, kEndPatienceNs);
}

void resume_writer() {
  if (!g.pause_asked.exchange(false)) return;
  const Unnoticed unnoticed;
  if (g.run.load(std::memory_order_acquire) != kRunning || !g.writer_left.load()) return;
  // Without it the rings are written at the end alone: what does not fit is counted.
  if (start_thread("preserve-spool", writer_main)) g.writer_left.store(false);
}

}  // namespace preserve::collector
