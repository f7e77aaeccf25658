// SPDX-License-Identifier: Apache-2.0
// Keys and values of all tokens so far, per layer: [token][sequence][kv head][head_dim], so that
// what is in use is always the head of the allocation. Tools see exactly that part: the memory
// regions grow with the text.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/tp_decoder/config.h"
#include "examples/tp_decoder/parallel.h"
#include "examples/tp_decoder/slab.h"

namespace tp_decoder {

class KvCache {
 public:
  struct Layer {
    float* keys = nullptr;
    float* values = nullptr;
  };

  KvCache(const ModelConfig& config, const Shard& shard, int64_t batch, int64_t max_tokens);

  int64_t bytes() const { return slab_.bytes(); }
  int64_t row_floats() const { return row_floats_; }      // one token of one sequence
  int64_t token_floats() const { return token_floats_; }  // one token of all sequences
  void allocate() { slab_.allocate(); }
  // Tells tools that the first `tokens` tokens are in use from here on.
  void grow(int64_t tokens);
  const Layer& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }

 private:
  Slab slab_;
  std::vector<Layer> layers_;
  std::vector<Region> in_use_;
  int64_t row_floats_;
  int64_t token_floats_;
};

}  // namespace tp_decoder
