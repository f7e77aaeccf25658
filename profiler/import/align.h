// SPDX-License-Identifier: Apache-2.0
// Clocks of ranks that were recorded in separate files. A collective ends on all its ranks within
// tens of µs, so equal collectives (same communicator, same sequence) give each rank's offset from
// the first; the spread that is left is reported, because no later number between ranks is better
// than it.
#pragma once

#include <vector>

#include "db/trace_db.h"

namespace preserve::import {

struct Alignment {
  ProcessId process;
  int64_t shift_ns = 0;  // added to its times; 0 when its clock agreed already
  int64_t matched = 0;   // collectives that were compared; below kLeastMatched nothing is shifted
  int64_t residual_median_ns = 0, residual_max_ns = 0;  // |end differences| after the shift
};

inline constexpr int64_t kLeastMatched = 3;

// Shifts all rows of each process but the first onto the first one's clock. `db` is still
// producing.
std::vector<Alignment> align_clocks(TraceDb& db, const std::vector<ProcessId>& processes);

}  // namespace preserve::import
