// SPDX-License-Identifier: Apache-2.0
// How far the clock of a host is from the common one of a trace: an offset that grows by a constant
// rate, from readings of both clocks or from what collectives allow.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "db/trace_db.h"

namespace preserve::clocks {

struct Line {
  int64_t from_ns = 0;     // on the host's own clock
  double offset_ns = 0;    // to be added to its times there
  double drift = 0;        // of the offset, ns per ns
  double error_ns = 0;     // the offset is known to this, within the time that it was found from
  double residual_ns = 0;  // the most by which a reading lies beside the line
  int64_t readings = 0;

  double offset_at(int64_t ns) const {
    return offset_ns + drift * static_cast<double>(ns - from_ns);
  }
};

// A moment on both clocks, known to half the round trip.
struct Reading {
  int64_t local_ns, common_ns, round_trip_ns;
};
// The line through the readings, the quick ones counting most. From one reading, or from several
// within too short a time, no rate follows: then it is 0, and the error grows with the distance
// from it to `end_ns` by what quartz clocks may differ. Nothing from no reading, or from impossible
// ones.
std::optional<Line> line_through(std::vector<Reading> readings, int64_t end_ns);

// What the offset must be at least and at most at a moment.
struct Bounds {
  int64_t ns;
  double least_ns, most_ns;
};
// The line that is farthest from all bounds; `error_ns`: by how much it may be moved without
// violating one. Where they contradict each other the least contradiction is `residual_ns`. Not
// empty.
Line line_between(const std::vector<Bounds>& bounds);

// What a line of a process found: a row of table `clock`.
struct Found {
  ProcessId process;
  const char* source;  // "round_trips" or "collectives"
  Line line;
  bool moved = false;  // else the times agree with the common clock as they are
};
// Moves all times of the processes onto the common clock, where that is not what they have already,
// and writes table `clock`. `db` is still producing.
void move_times(TraceDb& db, const std::vector<Found>& found);

}  // namespace preserve::clocks
