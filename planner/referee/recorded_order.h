// SPDX-License-Identifier: Apache-2.0
// When may an operator of a replayed step start? The folded step has times but no dependencies, so
// the recorded order stands in for them: what had ended before an operator began must have ended
// again, plus the recorded gap; an operator that began inside its predecessor on the same stream
// (programmatic dependent launch) begins at the same share of that predecessor's work. Times in ns.
#pragma once

#include <cstdint>
#include <vector>

#include "db/step/folded_step.h"

namespace preserve {

struct StartRule {
  int32_t ended = 0;    // so many of RecordedOrder::by_end, from the front, must be over
  double gap_ns = 0;    // idle time after the last of them
  int32_t inside = -1;  // or: the operator of the same stream that was running; gap_ns is then 0
  double share = 0;     // how much of it was done, 0..1
};

struct RecordedOrder {
  std::vector<int32_t> by_end;   // ordinals by recorded end
  std::vector<StartRule> rules;  // by ordinal
  double tail_ns = 0;            // from the last end to the start of the next step
};

// Throws input_error naming the operator when a time is negative, not a number or beyond 2^53 ns.
RecordedOrder recorded_order(const FoldedStep& step);

}  // namespace preserve
