// SPDX-License-Identifier: Apache-2.0
// CLOCK_MONOTONIC in ns, read without a system call: the one clock of all tools. Header-only: also
// used inside foreign processes.
#pragma once

#include <time.h>

#include <cstdint>

namespace preserve {

inline int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace preserve
