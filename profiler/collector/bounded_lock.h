// SPDX-License-Identifier: Apache-2.0
// A lock between threads of the program that nobody waits for without end. With a mutex a program
// would hang whose signal handler interrupts the holder on the same thread, or whose holder was
// left by siglongjmp. Uncontended it makes no system call, which a sandbox could forbid.
#pragma once

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "profiler/collector/ticks.h"

namespace preserve::collector {

class BoundedLock {
 public:
  // False when this thread holds it already, or another one held it during the whole wait.
  bool take() {
    const auto self = static_cast<uintptr_t>(pthread_self());
    int64_t give_up_ns = 0;
    for (int tries = 0;; ++tries) {
      uintptr_t holder = 0;
      if (holder_.compare_exchange_strong(holder, self, std::memory_order_acquire)) return true;
      if (holder == self || abandoned_.load(std::memory_order_relaxed)) return false;
      if (tries < kSpins) continue;
      const int64_t now_ns = safe_monotonic_ns();
      if (give_up_ns == 0) give_up_ns = now_ns + kWaitNs;
      if (now_ns > give_up_ns) abandoned_.store(true, std::memory_order_relaxed);
      ::usleep(50);
    }
  }
  void release() {
    if (holder_.load(std::memory_order_relaxed) == static_cast<uintptr_t>(pthread_self())) reset();
  }
  // In a child whose parent forked without handlers: the holder may not exist in it.
  void reset() {
    abandoned_.store(false, std::memory_order_relaxed);
    holder_.store(0, std::memory_order_release);
  }

 private:
  static constexpr int kSpins = 100;
  static constexpr int64_t kWaitNs = 2'000'000'000;
  std::atomic<uintptr_t> holder_{0};
  std::atomic<bool> abandoned_{false};  // somebody has waited in vain; until it is released
};

// A mutex that is held around calls of CUPTI: one that does not come back must not keep the program
// from going on and ending.
inline bool lock_in_time(pthread_mutex_t& mutex) {
  constexpr time_t kWaitS = 2;
  timespec until{};
  ::clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += kWaitS;
  return pthread_mutex_timedlock(&mutex, &until) == 0;
}

}  // namespace preserve::collector
