// SPDX-License-Identifier: Apache-2.0
// How many ranks, sequences and tokens a recorded step works for, as far as the recording says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "db/step/folded_step.h"
#include "db/trace_db.h"

namespace preserve::align {

struct StepSize {
  std::optional<int64_t> ranks{};   // of the step's collectives
  std::optional<int64_t> tokens{};  // that its products work on; of a decode step the sequences
  std::string tokens_from{};        // "shapes", "annotation", "messages"
};

// `hidden`: numbers of a token between layers, by which messages of allreduces are counted.
StepSize recorded_size(const TraceDb& db, const FoldedStep& step, int64_t hidden);

}  // namespace preserve::align
