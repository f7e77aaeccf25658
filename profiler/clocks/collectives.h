// SPDX-License-Identifier: Apache-2.0
// What matching collectives say of the clocks of their ranks: in one where every rank needs
// something of every other, nobody leaves before the last has entered.
#pragma once

#include <map>
#include <vector>

#include "profiler/clocks/clock_line.h"

namespace preserve::clocks {

// Processes of one clock, by process id.
using Group = std::vector<int64_t>;

struct Aligned {
  std::vector<Found> found;   // of the processes of all groups but the first
  std::vector<size_t> apart;  // groups that share no collective with those before them
};
// Lines that bring the groups onto the clock of the first one.
Aligned align(const TraceDb& db, const std::vector<Group>& groups);

// By how much, at most, each process left a collective before another one had entered it, by the
// times of the file; of processes without a matching collective nothing. Written into table `clock`
// where the process has a row. Returns the largest.
int64_t check(TraceDb& db);

}  // namespace preserve::clocks
