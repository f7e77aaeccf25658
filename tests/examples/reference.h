// SPDX-License-Identifier: Apache-2.0
// A Llama forward pass written down from its definition, in double precision, one token at a time,
// with neither BLAS nor ranks nor a shared cache layout. It takes only the weights' values from the
// decoder, as full matrices.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace tp_decoder::test {

struct ReferenceToken {
  int64_t id;
  double logit;
  double lead;  // over the second best: how much rounding the choice survives
};

// Prompts as the decoder draws them; result as [step][sequence].
std::vector<ReferenceToken> reference_tokens(const nlohmann::json& config, int64_t prompt,
                                             int64_t steps, int64_t batch, uint64_t seed);

}  // namespace tp_decoder::test
