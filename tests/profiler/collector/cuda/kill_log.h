// SPDX-License-Identifier: Apache-2.0
// What a program that will be killed leaves in a mapped file: how many kernels it had launched, and
// how many when it saw, and when that was, that CUPTI had been flushed once more. The kernels of
// one look had been handed out by the next.
#pragma once

#include <cstdint>

struct KillLog {
  static constexpr uint64_t kLooks = 4096;
  uint64_t launched;
  uint64_t looks;
  struct Look {
    int64_t ns;  // CLOCK_MONOTONIC
    uint64_t launched;
  } seen[kLooks];
};
