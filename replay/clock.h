// SPDX-License-Identifier: Apache-2.0
// The clock of every replay measurement: CLOCK_MONOTONIC in ns, read without a system call.
#pragma once

#include <time.h>

#include <cstdint>

namespace preserve {

inline int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Keeps the core busy: sleeping would let it clock down or be given to somebody else.
inline void spin_until(int64_t end_ns) {
  while (now_ns() < end_ns) {
  }
}

}  // namespace preserve
