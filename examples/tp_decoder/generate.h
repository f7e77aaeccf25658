// SPDX-License-Identifier: Apache-2.0
// The text: a random prompt, then one decode step after the other, each timed as the user of an
// engine sees it. Times in seconds.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/tp_decoder/decoder.h"
#include "examples/tp_decoder/options.h"

namespace tp_decoder {

struct Result {
  double prefill_s = 0;
  std::vector<double> steps_s;
  std::vector<Token> tokens;  // [step][sequence], the prompt's successor first
};

Result generate(Decoder& decoder, const Options& options, int64_t vocab);

// Of all token ids in order: texts that differ in one token, or in their order, differ here.
uint64_t checksum(const std::vector<Token>& tokens);

}  // namespace tp_decoder
