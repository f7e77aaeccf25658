// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/generate.h"

#include <algorithm>
#include <chrono>
#include <span>

namespace tp_decoder {
namespace {

std::vector<int32_t> random_prompt(const Options& options, int64_t vocab) {
  const int64_t count = options.prompt * options.batch;
  std::vector<float> uniform(static_cast<size_t>(count));
  draw(uniform.data(), options.seed, "prompt", {0, 1}, {0, count}, 0.5f, 0.5f);
  std::vector<int32_t> tokens;
  for (const float value : uniform) {
    const auto id = static_cast<int64_t>(static_cast<double>(value) * static_cast<double>(vocab));
    tokens.push_back(static_cast<int32_t>(std::clamp<int64_t>(id, 0, vocab - 1)));
  }
  return tokens;
}

// Returns the ids to continue with.
std::vector<int32_t> timed_step(Decoder& decoder, const Module& name,
                                const std::vector<int32_t>& tokens, double& seconds,
                                Result& result) {
  const auto start = std::chrono::steady_clock::now();
  std::span<const Token> chosen;
  {
    Scope scope(name);
    chosen = decoder.step(tokens);
  }
  seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<int32_t> ids;
  for (const Token& token : chosen) {
    ids.push_back(token.id);
    result.tokens.push_back(token);
  }
  return ids;
}

}  // namespace

Result generate(Decoder& decoder, const Options& options, int64_t vocab) {
  const Module prefill_step("prefill_step"), decode_step("decode_step");
  Result result;
  result.steps_s.resize(static_cast<size_t>(options.tokens));
  std::vector<int32_t> ids =
      timed_step(decoder, prefill_step, random_prompt(options, vocab), result.prefill_s, result);
  for (double& seconds : result.steps_s) {
    ids = timed_step(decoder, decode_step, ids, seconds, result);
  }
  return result;
}

uint64_t checksum(const std::vector<Token>& tokens) {
  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const Token& token : tokens) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ ((static_cast<uint32_t>(token.id) >> shift) & 0xff)) * 0x100000001b3;
    }
  }
  return hash;
}

}  // namespace tp_decoder
