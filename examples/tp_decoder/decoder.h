// SPDX-License-Identifier: Apache-2.0
// One rank of a tensor-parallel Llama decoder. step() runs the prompt or one decode step and
// returns the greedy choice, the same on every rank. Every module runs inside a Scope with its
// path, each collective inside one of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "examples/tp_decoder/annotate.h"
#include "examples/tp_decoder/config.h"
#include "examples/tp_decoder/kv_cache.h"
#include "examples/tp_decoder/parallel.h"
#include "examples/tp_decoder/weights.h"

namespace tp_decoder {

struct RunShape {
  int64_t batch = 1;        // sequences decoded together
  int64_t max_context = 0;  // tokens per sequence, prompt included
  int64_t max_rows = 1;     // largest number of tokens in one step(), all sequences together
};

class Decoder {
 public:
  // Takes no memory yet, so that the need can be checked first. `group` must outlive the decoder.
  Decoder(const ModelConfig& config, const Shard& shard, const RunShape& run, const Group& group);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t kv_bytes() const { return kv_.bytes(); }
  int64_t activation_bytes() const { return activations_.bytes(); }
  void load(uint64_t seed);  // throws Error

  // `tokens`: the next token or tokens, [token][sequence]. Returns one token per sequence, valid
  // until the next call.
  std::span<const Token> step(std::span<const int32_t> tokens);

 private:
  struct LayerModules {
    explicit LayerModules(int64_t index);
    Module attn_norm, qkv, rope, core, o_proj, attn_allreduce;
    Module mlp_norm, gate_up, act, down, mlp_allreduce;
  };

  void reserve_activations();
  void fill_rope_tables();
  void embed(std::span<const int32_t> tokens);
  void attention(int64_t layer, int64_t rows);
  void rotate(int64_t rows);
  void attention_core(int64_t layer, int64_t rows);
  void mlp(int64_t layer, int64_t rows);
  void choose(int64_t rows);

  ModelConfig config_;
  Shard shard_;
  RunShape run_;
  const Group& group_;
  Weights weights_;
  KvCache kv_;
  int64_t q_floats_ = 0;    // one row's queries on this rank
  int64_t qkv_floats_ = 0;  // and its queries, keys and values
  int64_t position_ = 0;    // tokens of each sequence in the cache

  Module embed_, embed_allreduce_, final_norm_, lm_head_, sample_, sample_allreduce_;
  std::vector<LayerModules> modules_;

  Slab activations_;
  float* residual_ = nullptr;  // [rows][hidden], the same on every rank
  float* delta_ = nullptr;     // what the next norm adds to it
  float* normed_ = nullptr;
  float* qkv_ = nullptr;
  float* attended_ = nullptr;
  float* gate_up_ = nullptr;
  float* act_ = nullptr;
  float* scores_ = nullptr;
  float* logits_ = nullptr;  // [batch][this rank's vocabulary]
  float* cosine_ = nullptr;  // [max_context][head_dim / 2]
  float* sine_ = nullptr;
  std::vector<Token> chosen_;
};

}  // namespace tp_decoder
