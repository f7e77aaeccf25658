// SPDX-License-Identifier: Apache-2.0
// What a measurement means: per-operator times of every rank and arm, how faithful the replay was,
// how good the prediction. Pure; definitions as in db/schema.sql (table result) and docs/replay.md.
#pragma once

#include <cstdint>
#include <vector>

#include "db/replay_result.h"
#include "planner/schedule/schedule.h"
#include "replay/step/program.h"

namespace preserve {

struct OpTime {
  double median_ns = 0, mad_ns = 0;
};

// Of all ranks, as rank 0 has it. Every rank has run the same operators.
struct OpTimes {
  size_t arms = 0, ranks = 0, ops = 0;
  std::vector<OpTime> times;        // [arm][rank][op]
  std::vector<double> recorded_ns;  // [rank][op]

  const OpTime& at(size_t arm, size_t rank, size_t op) const {
    return times[(arm * ranks + rank) * ops + op];
  }
  double recorded(size_t rank, size_t op) const { return recorded_ns[rank * ops + op]; }
};

// Adds to `result`, which holds what the samples decide, all that follows from operators, plan and
// recording. `recorded_step_ns`: the slowest rank's recorded step without a link.
void add_outcome(const OpTimes& times, const StepProgram& program, const ReplayArm& prefetch,
                 const Schedule& schedule, int64_t recorded_step_ns, ReplayResult& result);

}  // namespace preserve
