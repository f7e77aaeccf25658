// SPDX-License-Identifier: Apache-2.0
// How many ranks, sequences and tokens a recorded step works for, as far as the recording says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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

// Tokens that the annotation of a step states, as in "step[DECODE bs=16]",
// "execute_context_1(512)_generation_3(3)" or "forward_step 5: 0 ctx reqs, 16 gen reqs".
std::optional<int64_t> stated_tokens(std::string_view annotation, StepPhase phase);

}  // namespace preserve::align
