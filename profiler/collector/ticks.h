// SPDX-License-Identifier: Apache-2.0
// The cheapest clock that is safe: the time-stamp counter where the processor promises that it runs
// at one rate on all cores (CPUID 8000_0007h, EDX bit 8) and the kernel trusts it too, else
// CLOCK_MONOTONIC. The converter turns ticks into ns with the anchors taken here.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "common/clock.h"

namespace preserve::collector {

extern std::atomic<bool> ticks_are_tsc;
// Where reading it ends the program; the C library's clock reads it too.
extern std::atomic<bool> tsc_is_an_error;

// And where asking the kernel for the time does, but for the thread that no filter can reach.
extern std::atomic<bool> asking_is_an_error;
extern __thread bool may_ask_time __attribute__((tls_model("initial-exec")));
int64_t asked_monotonic_ns();

// CLOCK_MONOTONIC on a thread of the program. Where there is none any more: the last that is known
// and the time that such readings took; the thread then records nothing any more.
inline int64_t safe_monotonic_ns() {
  if (__builtin_expect(!tsc_is_an_error.load(std::memory_order_relaxed), 1)) return monotonic_ns();
  return asked_monotonic_ns();
}

uint64_t ticks_at(int64_t ns);  // without the counter
bool in_tsc_units();            // of ticks, also when the counter was left

inline uint64_t ticks_now() {
#if defined(__x86_64__)
  if (__builtin_expect(ticks_are_tsc.load(std::memory_order_relaxed), 1)) return __rdtsc();
#endif
  return ticks_at(safe_monotonic_ns());
}

// Before the first record.
void choose_clock();
// From the counter to CLOCK_MONOTONIC in the middle of a recording: ticks keep their unit.
void continue_without_tsc();

struct Anchor {
  uint64_t ticks = 0;
  int64_t ns = 0;
};
// The same moment on both clocks; of several tries the one with the least time in between.
Anchor take_anchor();

}  // namespace preserve::collector
