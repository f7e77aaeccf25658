// SPDX-License-Identifier: Apache-2.0
#include "apply/library/helper.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "hooks/unnoticed.h"

namespace preserve::apply {
namespace {

constexpr int64_t kSpinNs =
    20'000'000;  // then it sleeps: a window that begins meanwhile is seen late
constexpr int64_t kSleepNs = 50'000;
constexpr int kCores = CPU_SETSIZE;
static_assert(sizeof(Board::cores) * CHAR_BIT == kCores);

// Of this machine that the process may use; where it is bound to one of them, too.
cpu_set_t usable_cores() {
  cpu_set_t all, own;
  CPU_ZERO(&own);
  if (::sched_getaffinity(0, sizeof(own), &own) != 0) return own;
  std::memset(&all, 0xff, sizeof(all));
  cpu_set_t usable = own;
  // Only what the system lets it have remains of `all`.
  if (::sched_setaffinity(0, sizeof(all), &all) == 0) {
    (void)::sched_getaffinity(0, sizeof(usable), &usable);
    (void)::sched_setaffinity(0, sizeof(own), &own);
  }
  return usable;
}

// A load of memory that is unmapped under way would end the program, and this thread may be kept
// from its core for longer than anybody can wait for it.
Method harmless(Method method) {
  return method == Method::load ? Method::prefetcht0 : method;
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Helper::Helper(const PlanView& plan, Tensors& tensors, Board& board, Clock clock)
    : plan_(plan),
      board_(board),
      clock_(clock),
      fetcher_(plan, tensors, clock, harmless(plan.header().method)) {}

Off Helper::start() {
  const Unnoticed unnoticed;
  const int core = ::sched_getcpu();
  if (core >= 0 && core < kCores) {
    board_.cores[core / 64].fetch_or(uint64_t{1} << (core % 64));
  }
  const cpu_set_t usable = usable_cores();
  const uint32_t ranks = board_.ranks.load() > 0 ? board_.ranks.load() : 1;
  if (CPU_COUNT(&usable) < static_cast<int>(2 * ranks)) return Off::no_idle_core;
  sigset_t all, before;
  ::sigfillset(&all);
  if (::pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return Off::no_idle_core;
  pthread_attr_t attributes;
  pthread_t thread;
  bool started = false;
  if (::pthread_attr_init(&attributes) == 0) {
    started = ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
              ::pthread_create(&thread, &attributes, run, this) == 0;
    ::pthread_attr_destroy(&attributes);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started ? Off::none : Off::no_idle_core;
}

void Helper::stop() {
  quit_.store(true, std::memory_order_relaxed);
}

void Helper::post(uint32_t index) {
  ++number_;
  posted_.store(number_ << 32 | (index + 1), std::memory_order_release);
}

uint64_t Helper::take_back() {
  posted_.store(number_ << 32, std::memory_order_relaxed);
  const uint64_t fetched = fetched_.load(std::memory_order_relaxed);
  constexpr uint64_t kLow = (uint64_t{1} << 24) - 1;
  return fetched >> 40 == (number_ & kLow) ? fetched & ((uint64_t{1} << 40) - 1) : 0;
}

void* Helper::run(void* helper) {
  static_cast<Helper*>(helper)->work();
  return nullptr;
}

// All ranks have said by the first window where they work.
bool Helper::move_to_idle_core() const {
  cpu_set_t idle = usable_cores();
  for (int core = 0; core < kCores; ++core) {
    if ((board_.cores[core / 64].load() >> (core % 64) & 1) != 0) CPU_CLR(core, &idle);
  }
  return CPU_COUNT(&idle) > 0 && ::sched_setaffinity(0, sizeof(idle), &idle) == 0;
}

void Helper::work() {
  uint64_t last = 0;
  int64_t last_ns = clock_();
  bool moved = false;
  while (!quit_.load(std::memory_order_relaxed)) {
    const uint64_t seen = posted_.load(std::memory_order_acquire);
    if (seen == last || static_cast<uint32_t>(seen) == 0) {
      if (clock_() - last_ns < kSpinNs) {
        pause();
      } else {
        const timespec sleep{0, kSleepNs};
        ::nanosleep(&sleep, nullptr);
      }
      continue;
    }
    if (!moved && !move_to_idle_core()) return;  // on a rank's core it would do harm
    moved = true;
    last = seen;
    fetcher_.open(plan_.slices(plan_.windows()[static_cast<uint32_t>(seen) - 1]));
    uint64_t bytes = 0;
    while (fetcher_.has_more() && posted_.load(std::memory_order_relaxed) == seen) {
      bytes += fetcher_.fetch();
      fetched_.store((seen >> 32) << 40 | bytes, std::memory_order_relaxed);
    }
    fetcher_.close();
    last_ns = clock_();
  }
}

}  // namespace preserve::apply
