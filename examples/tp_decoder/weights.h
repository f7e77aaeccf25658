// SPDX-License-Identifier: Apache-2.0
// The weights of one rank. They are random, but every rank draws its part of the same full
// matrices: an element depends on the seed, the matrix's name, its row and its column alone, so any
// split of the model computes the same text. Matrices are row-major [outputs][inputs], fp32.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "examples/tp_decoder/config.h"
#include "examples/tp_decoder/parallel.h"
#include "examples/tp_decoder/slab.h"

namespace tp_decoder {

// Fills `out` with rows x cols of the full matrix `name`: uniform in mean +- spread.
void draw(float* out, uint64_t seed, std::string_view name, Slice rows, Slice cols, float spread,
          float mean = 0);

struct LayerWeights {
  float* attn_norm = nullptr;
  float* qkv = nullptr;       // this rank's query heads, then key heads, then value heads
  float* qkv_bias = nullptr;  // null where the model has none
  float* o_proj = nullptr;
  float* o_bias = nullptr;  // on rank 0 alone: the allreduce adds it once
  float* mlp_norm = nullptr;
  float* gate_up = nullptr;  // this rank's gate rows, then its up rows
  float* down = nullptr;
};

class Weights {
 public:
  Weights(const ModelConfig& config, const Shard& shard);

  int64_t bytes() const { return slab_.bytes(); }
  // Allocates, draws all values and names the memory for tools. Throws Error.
  void load(uint64_t seed);

  const LayerWeights& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
  const float* embed() const { return embed_; }  // this rank's rows of the vocabulary
  const float* final_norm() const { return final_norm_; }
  const float* lm_head() const { return config_.tied_embeddings ? embed_ : lm_head_; }

 private:
  void draw_layer(uint64_t seed, int64_t index);

  ModelConfig config_;
  Shard shard_;
  Slab slab_;
  std::vector<LayerWeights> layers_;
  float* embed_ = nullptr;
  float* final_norm_ = nullptr;
  float* lm_head_ = nullptr;
};

}  // namespace tp_decoder
