// SPDX-License-Identifier: Apache-2.0
// How fast this thread's core runs, and whether a thread that never waits had it all the time.
// Other threads and the host of a virtual machine take it for moments everywhere: what counts is
// how much of the time that was.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "common/clock.h"
#include "common/units.h"

namespace preserve {

// Of the calling thread, from its beginning.
struct CoreUse {
  int64_t switches = 0;  // to another thread, unasked
  int64_t cpu_ns = 0;    // on a core
  int64_t wall_ns = 0;   // of the clock
};

inline CoreUse core_use() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  timespec cpu{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  return {usage.ru_nivcsw, cpu.tv_sec * static_cast<int64_t>(kNsPerS) + cpu.tv_nsec,
          monotonic_ns()};
}

// True when the thread was without a core for more than a fiftieth of the time between. A median of
// samples that lost less than that is off by less than that, in every arm alike.
inline bool lost_core(const CoreUse& before, const CoreUse& after) {
  constexpr int64_t kLeastPart = 50;
  const int64_t wall_ns = after.wall_ns - before.wall_ns;
  const int64_t lost_ns = wall_ns - (after.cpu_ns - before.cpu_ns);
  return after.switches > before.switches && kLeastPart * lost_ns > wall_ns;
}

inline constexpr int kClockProbeSteps = 2000;

// A chain of dependent multiplications: its time is the clock's, whatever memory does. The shortest
// of three, so that a timer interrupt does not look like a slow clock.
inline int64_t clock_probe_ns() {
  int64_t shortest = INT64_MAX;
  for (int round = 0; round < 3; ++round) {
    uint64_t value = 1;
    const int64_t start_ns = monotonic_ns();
    for (int i = 0; i < kClockProbeSteps; ++i) {
      value = value * 6364136223846793005u + 1442695040888963407u;
      asm volatile("" : "+r"(value));
    }
    shortest = std::min(shortest, monotonic_ns() - start_ns);
  }
  return shortest;
}

}  // namespace preserve
