// SPDX-License-Identifier: Apache-2.0
// What a decoder's Hugging Face config.json says of the weights and caches that a decode step
// reads: the shape of each layer. A file that says something else than this can hold is refused,
// naming the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "planner/workload/model/weight_type.h"

namespace preserve {

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0;
  int64_t head_dim = 0;          // of queries, keys and values; of queries and keys with a latent
  int64_t window = 0;            // tokens that it reads at most; 0: the whole context
  bool gated = false;            // the query projection also makes a gate of the output
  int64_t latent = 0;            // not 0 (MLA): numbers per token that all heads share; no KV heads
  int64_t latent_rope = 0;       // that many of `latent` are the rotated key
  int64_t query_rank = 0;        // MLA: of the low-rank query projection; 0: it is a single matrix
  int64_t value_dim = 0;         // MLA: numbers of a head's value
  int64_t other_parameters = 0;  // biases and norms of queries and keys
  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

// State space, linear attention or convolution: a state of fixed size instead of a KV-cache.
struct MixerShape {
  int64_t in_rows = 0;      // of the projection from the hidden size
  int64_t out_columns = 0;  // of the projection back
  int64_t other_parameters = 0;
  int64_t state_elements = 0;  // per sequence
  friend bool operator==(const MixerShape&, const MixerShape&) = default;
};

struct MlpShape {
  int64_t columns = 0;
  bool gated = true;  // three matrices, gate, up and down; else two
  int64_t other_parameters = 0;
  friend bool operator==(const MlpShape&, const MlpShape&) = default;
};

// A router chooses `chosen` of `count` experts for each token; the shared ones work on all.
struct ExpertsShape {
  int64_t count = 0, chosen = 0;
  int64_t columns = 0;         // of one routed expert
  int64_t shared_columns = 0;  // of the shared experts together; 0: none
  bool gated = true;
  int64_t other_parameters = 0;
  friend bool operator==(const ExpertsShape&, const ExpertsShape&) = default;
};

struct LayerShape {
  std::optional<AttentionShape> attention;
  std::optional<MixerShape> mixer;
  std::optional<MlpShape> mlp;
  std::optional<ExpertsShape> experts;
  bool post_norms = false;  // also a norm after attention and MLP
  int64_t norm_parameters = 0;
  friend bool operator==(const LayerShape&, const LayerShape&) = default;
};

struct ModelConfig {
  std::string name;  // the file's name without .json; of its folder if that is "config"
  std::string model_type;
  int64_t hidden = 0;
  int64_t vocabulary = 0;
  bool tied_embeddings = false;
  int64_t other_parameters = 0;  // final norm, learned positions, bias of the head
  std::vector<LayerShape> layers;
  // As quantization_config says; everything 16-bit without one.
  NumberFormat attention_weights, mlp_weights, expert_weights;
  WeightType kv_type = WeightType::fp16;
  std::optional<int64_t> indexed_parameters;  // of the safetensors index beside the file
  std::vector<std::string> warnings;
};

// `assume_llama`: a model_type that is not known is taken for Llama's architecture. Throws
// input_error naming the file and the key.
ModelConfig load_model_config(const std::filesystem::path& path, bool assume_llama = false);

}  // namespace preserve
