// SPDX-License-Identifier: Apache-2.0
// What a model_type says without a key in its config.json: the architecture's code, and the values
// that the library which writes the file leaves out because they are its defaults.
#pragma once

#include <cstdint>
#include <string_view>

namespace preserve {

enum class QueryKeyNorm { none, per_head, whole };  // per_head: one weight per number of a head
enum class Mixer {
  none,
  mamba,
  mamba2,
  gated_delta,
  short_convolution,
  lightning,
  gated_recurrence
};

struct Biases {
  bool query = false;  // of queries, keys and values
  bool output = false, mlp = false;
};

// By default as Llama.
struct Family {
  std::string_view model_type{};
  bool gated = true;            // the MLP has gate, up and down
  bool attends = true;          // else every layer is its mixer and nothing else
  bool latent = false;          // attention keeps a latent (MLA), whose sizes must be stated
  bool halved_columns = false;  // gate and up have half the stated width each
  Biases biases{};
  bool layer_norm = false;  // norms have a bias
  int norms = 2;            // of the hidden size, per layer
  bool final_norm = true;
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  bool tied = false;
  bool head_bias = false;
  bool learned_positions = false;
  bool squared_relu_experts = false;  // experts have no gate
  Mixer mixer = Mixer::none;
  // Which layers slide when a window is stated and no key lists the layers: all but each
  // so-manieth; 0: the even ones alone, or all.
  int64_t unslid_nth = 0;
  bool slides_even = false;
  // Defaults of the library; 0: the key must be there.
  int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t vocabulary = 0, window = 0;
};

// nullptr: not known.
const Family* find_family(std::string_view model_type);

}  // namespace preserve
