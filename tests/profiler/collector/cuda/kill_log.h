// SPDX-License-Identifier: Apache-2.0
// What a program that will be killed leaves in a mapped file: how many kernels it had launched, and
// how many before each of the recording's flushes.
#pragma once

#include <cstdint>

struct KillLog {
  static constexpr uint64_t kFlushes = 4096;
  uint64_t launched;
  uint64_t flushes;
  uint64_t launched_before[kFlushes];
};
