// SPDX-License-Identifier: Apache-2.0
// The numbers of a decoder that its Hugging Face config.json states and that decide how many bytes
// a decode step reads. Llama, Qwen2 and Phi-3 spellings; what else the file holds is ignored.
// Models with routed experts are refused: which expert a token needs is not known before it is
// needed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace preserve {

struct ModelConfig {
  std::string name;  // the file's name without .json; of its folder if that is "config"
  int64_t hidden = 0;
  int64_t intermediate = 0;  // of the gated MLP: gate and up have this many rows each
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocabulary = 0;
  bool tied_embeddings = false;
  std::vector<std::string> warnings;
};

// Throws input_error naming the file and the field.
ModelConfig load_model_config(const std::filesystem::path& path);

}  // namespace preserve
