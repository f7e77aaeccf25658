// SPDX-License-Identifier: Apache-2.0
// The two ways of waiting on a core without giving it up.
#pragma once

#include <sched.h>

#include <cstdint>

#include "common/clock.h"

namespace preserve {

// Keeps the core busy: sleeping would let it clock down or be given to another thread.
inline void spin_until(int64_t end_ns) {
  while (monotonic_ns() < end_ns) {
  }
}

// For loops that wait for another thread or process. Once in kLooks it offers the core to other
// threads: that costs nothing where no other thread needs it, and without it ranks that share a
// core under a real-time policy would wait for ever.
class SpinWait {
 public:
  void again() {
    if (++looks_ % kLooks == 0) ::sched_yield();
  }

 private:
  static constexpr uint32_t kLooks = 1024;
  uint32_t looks_ = 0;
};

}  // namespace preserve
