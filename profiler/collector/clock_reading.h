// SPDX-License-Identifier: Apache-2.0
// How far this host's CLOCK_MONOTONIC is from the launcher's, by round trips over TCP. On the
// writer thread alone: the program's threads take no part, and no other rank has to answer, since
// one that is not recorded would not.
#pragma once

#include <cstdint>

namespace preserve::collector {

struct ClockReading {
  int64_t local_ns = 0;       // CLOCK_MONOTONIC here, half-way through the round trip
  int64_t launcher_ns = 0;    // what the launcher's was then
  int64_t round_trip_ns = 0;  // the shortest of many: the clocks are known to half of it
};

// Of the process that begins to be recorded, on a thread of the program: the environment is the
// program's to change.
void remember_launcher();

// False when there is no launcher to ask or it does not answer, so that it is not asked again, or
// when `stop`, which is looked at every few milliseconds, ended it. Takes up to 20 ms, and the
// first time as long as it takes to find out by which address the launcher can be reached.
bool read_launchers_clock(ClockReading* reading, bool (*stop)());

}  // namespace preserve::collector
