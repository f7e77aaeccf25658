// SPDX-License-Identifier: Apache-2.0
// The model's shape, read from a Hugging Face config.json. Families that are the Llama block under
// another name are accepted: llama, mistral, qwen2 (bias on q, k and v), phi3 (fused projections,
// the same mathematics). Anything that would compute something else is refused, naming file and
// key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tp_decoder {

struct ModelConfig {
  std::string name;    // the file's stem
  std::string family;  // model_type
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;  // intermediate_size
  int64_t vocab = 0;
  int64_t max_context = 0;  // tokens: max_position_embeddings, or the sliding window when shorter
  float norm_eps = 0;
  double rope_theta = 0;
  bool tied_embeddings = false;  // lm_head uses the embedding table
  bool qkv_bias = false;
  bool o_bias = false;
};

// With `shapes_only`, models of the same matrix shapes but other mathematics (phi3small) are
// accepted too and computed as a Llama block: right for memory traffic, wrong for text.
// Throws Error.
ModelConfig load_config(const std::filesystem::path& path, bool shapes_only);

}  // namespace tp_decoder
