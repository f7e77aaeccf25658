// SPDX-License-Identifier: Apache-2.0
// The cheapest clock that is safe: the time-stamp counter where the processor promises that it runs
// at one rate on all cores (CPUID 8000_0007h, EDX bit 8) and the kernel trusts it too, else
// CLOCK_MONOTONIC. The converter turns ticks into ns with the anchors taken here.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "common/clock.h"

namespace preserve::collector {

extern bool ticks_are_tsc;  // set once, before the first record

inline uint64_t ticks_now() {
#if defined(__x86_64__)
  if (__builtin_expect(ticks_are_tsc, 1)) return __rdtsc();
#endif
  return static_cast<uint64_t>(monotonic_ns());
}

void choose_clock();

struct Anchor {
  uint64_t ticks = 0;
  int64_t ns = 0;
};
// The same moment on both clocks; of several tries the one with the least time in between.
Anchor take_anchor();

}  // namespace preserve::collector
