// SPDX-License-Identifier: Apache-2.0
// The repetitions of a step as they were recorded: what a folded step is made of.
#pragma once

#include <cstdint>
#include <vector>

#include "db/step/folded_step.h"
#include "db/trace_db.h"

namespace preserve {

struct RawOp {
  int64_t id = 0, stream = 0, name_id = 0;
  OpKind kind = OpKind::other;
  int64_t start_ns = 0, end_ns = 0;
};

struct RawStep {
  int64_t id = 0, start_ns = 0, end_ns = 0;
  std::vector<RawOp> ops;  // by stream, then start
};

inline constexpr int64_t kAllOperators = INT64_MAX;

// The repetitions with the most frequent sequence of operators, without the cold first one, of
// `folded.process`, in `phase` (decode takes steps of unknown phase where no step is a decode);
// fills source, phase, steps_total, steps_used and perhaps a warning. Of more than
// `most_operators` evenly spaced repetitions. Empty: none has operators.
std::vector<RawStep> alike_steps(const TraceDb& db, int64_t most_operators, StepPhase phase,
                                 FoldedStep& folded);

}  // namespace preserve
