// SPDX-License-Identifier: Apache-2.0
// Tokens that engines write into the annotation of a step: "step[DECODE bs=16]",
// "execute_context_1(512)_generation_3(3)", "forward_step 5: 0 ctx reqs, 16 gen reqs".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "db/trace_db.h"

namespace preserve {

inline constexpr int64_t kMostStepTokens = 1 << 27;

// Of a decode step, which is unknown of a mixed batch, or of a prefill with all that is decoded
// beside it.
std::optional<int64_t> stated_tokens(std::string_view annotation, StepPhase phase);

}  // namespace preserve
