// SPDX-License-Identifier: Apache-2.0
// Tensor parallelism over MPI: which part of the model a rank holds, and the three collectives a
// decode step needs. Heads, FFN columns and vocabulary rows are split; norms and the residual
// stream are the same on every rank.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "examples/tp_decoder/config.h"

namespace tp_decoder {

struct Slice {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// A rank's part of the model, in heads, FFN columns and vocabulary rows of the whole.
struct Shard {
  int rank = 0;
  Slice heads, kv_heads, ffn, vocab;
};
// Throws Error when the heads cannot be split evenly.
Shard make_shard(const ModelConfig& config, int rank, int ranks);

// The token with the highest logit. The layout of MPI_FLOAT_INT.
struct Token {
  float logit = 0;
  int32_t id = 0;
};

// MPI from construction to destruction; the world is one tensor-parallel group.
class Group {
 public:
  Group(int& argc, char**& argv);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  void sum(float* values, int64_t count) const;  // allreduce, in place
  void highest(std::span<Token> tokens) const;   // per element; of equals the lowest id
  int64_t sum_on_host(int64_t value) const;      // over the ranks that share this machine
  // Empty when no rank brings an error; else the lowest such rank's text, on every rank. Ranks
  // agree on going on before each stage whose failure would leave others waiting in a collective.
  std::string first_error(const std::string& error) const;

 private:
  int rank_ = 0;
  int ranks_ = 1;
};

}  // namespace tp_decoder
