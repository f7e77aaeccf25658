// SPDX-License-Identifier: Apache-2.0
// What a measurement means: per-operator times of every rank and arm, how faithful the replay was,
// how good the prediction. Pure; definitions as in docs/formats.md (replay.db) and docs/replay.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/schedule/schedule.h"
#include "replay/measure/measure.h"
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

struct Outcome {
  int64_t recorded_step_ns = 0;  // slowest rank, link included
  double fidelity = 0;           // 0: no baseline sample counted
  double fidelity_op_median = 0, fidelity_op_worst = 0;
  std::string fidelity_op_worst_name;
  double predicted_speedup = 1;  // of what arm prefetch does: 1 when that is nothing
  double prediction_error = 0;
  int64_t predicted_saved_ns = 0, realised_saved_ns = 0;
  double collective_slowdown = 0;  // 0: no window carried a prefetch
  double slowdown_per_byte_ns = 0;
  std::string winner;  // by find_winner(), else baseline
};

// `recorded_step_ns`: the slowest rank's recorded step without a link. `fetched_bytes`: per step
// and rank in arm prefetch.
Outcome outcome_of(const Measurement& measurement, const OpTimes& times, const StepProgram& program,
                   const ReplayArm& prefetch, const Schedule& schedule, int64_t recorded_step_ns,
                   double fetched_bytes);

}  // namespace preserve
