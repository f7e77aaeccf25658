// SPDX-License-Identifier: Apache-2.0
// Read off the model code and configuration classes of huggingface/transformers (Apache-2.0).
#include "planner/workload/model/families.h"

#include <map>
#include <vector>

namespace preserve {
namespace {

constexpr auto kPerHead = QueryKeyNorm::per_head;
constexpr auto kWhole = QueryKeyNorm::whole;
constexpr Biases kQuery{.query = true}, kOutside{.output = true, .mlp = true}, kMlp{.mlp = true};
constexpr Biases kAll{.query = true, .output = true, .mlp = true};

// Model types of one architecture, described by what differs from Llama's.
struct Alike {
  std::vector<std::string_view> model_types;
  Family family{};
};

const Alike kArchitectures[] = {
    {{"ministral", "ministral3", "mixtral",  "granite",   "granitemoe",  "granitemoeshared",
      "deci",      "exaone",     "internlm", "internlm2", "internlm3",   "nemotron-nas",
      "baichuan",  "yi",         "Yi",       "aquila",    "xverse",      "phi3",
      "phi3_v",    "deepseek",   "glm4_moe", "dbrx",      "bailing_moe", "llama4_text"}},
    {{"llama"},
     {.hidden = 4096, .intermediate = 11008, .layers = 32, .heads = 32, .vocabulary = 32000}},
    {{"mistral"},
     {.hidden = 4096,
      .intermediate = 14336,
      .layers = 32,
      .heads = 32,
      .kv_heads = 8,
      .vocabulary = 32000}},
    {{"smollm3", "ernie4_5", "ernie4_5_moe", "minicpm", "minicpm3"}, {.tied = true}},
    {{"phimoe", "stablelm"}, {.layer_norm = true}},
    {{"phi3small"}, {.biases = kAll, .layer_norm = true, .tied = true}},
    {{"olmo"}, {.norms = 0, .final_norm = false}},
    {{"olmo2", "olmoe", "minimax_m2"}, {.query_key_norm = kWhole}},
    {{"olmo3"}, {.query_key_norm = kWhole, .unslid_nth = 4}},
    {{"exaone4"}, {.query_key_norm = kPerHead, .unslid_nth = 4}},
    {{"cohere"}, {.norms = 1, .tied = true}},
    {{"cohere2"}, {.norms = 1, .tied = true, .unslid_nth = 4}},
    {{"seed_oss", "mimo", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text",
      "glm", "chatglm", "glm4v_moe_text"},
     {.biases = kQuery}},
    {{"qwen2"},
     {.biases = kQuery,
      .hidden = 4096,
      .intermediate = 22016,
      .layers = 32,
      .heads = 32,
      .kv_heads = 32,
      .vocabulary = 151936}},
    {{"qwen"}, {.halved_columns = true, .biases = kQuery}},
    {{"glm4", "glm4v_text"}, {.biases = kQuery, .norms = 4}},
    {{"qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "hunyuan_v1_dense",
      "hunyuan_v1_moe", "dots1", "bailing_moe_v2"},
     {.query_key_norm = kPerHead}},
    {{"openelm"}, {.query_key_norm = kPerHead, .tied = true}},  // widths of each layer
    {{"deepseek_v2", "deepseek_v3", "kimi_k2"}, {.latent = true}},
    {{"gpt_oss"}, {.biases = kAll, .slides_even = true}},
    // Gemma
    {{"gemma"}, {.tied = true, .head_dim = 256, .vocabulary = 256000}},
    {{"gemma2"},
     {.norms = 4, .tied = true, .slides_even = true, .head_dim = 256, .vocabulary = 256000}},
    {{"gemma3_text"},
     {.norms = 4,
      .query_key_norm = kPerHead,
      .tied = true,
      .unslid_nth = 6,
      .hidden = 2304,
      .intermediate = 9216,
      .layers = 26,
      .heads = 8,
      .kv_heads = 4,
      .head_dim = 256,
      .vocabulary = 262208,
      .window = 4096}},
    // Not gated
    {{"arcee"}, {.gated = false}},
    {{"apertus"}, {.gated = false, .query_key_norm = kPerHead}},
    {{"mpt"}, {.gated = false, .tied = true}},
    {{"nemotron"}, {.gated = false, .layer_norm = true}},
    {{"falcon"}, {.gated = false, .layer_norm = true, .norms = 1, .tied = true}},
    {{"gptj", "codegen"},
     {.gated = false, .biases = kMlp, .layer_norm = true, .norms = 1, .head_bias = true}},
    {{"gpt_neox"}, {.gated = false, .biases = kAll, .layer_norm = true}},
    {{"persimmon"},
     {.gated = false, .biases = kAll, .layer_norm = true, .query_key_norm = kPerHead}},
    {{"phi"}, {.gated = false, .biases = kAll, .layer_norm = true, .norms = 1, .head_bias = true}},
    {{"bloom", "starcoder2"}, {.gated = false, .biases = kAll, .layer_norm = true, .tied = true}},
    {{"gpt2", "gpt_bigcode", "opt"},
     {.gated = false, .biases = kAll, .layer_norm = true, .tied = true, .learned_positions = true}},
    {{"gpt_neo"},
     {.gated = false,
      .biases = kOutside,
      .layer_norm = true,
      .tied = true,
      .learned_positions = true}},
    // Layers of other kinds than attention
    {{"mamba", "falcon_mamba"},
     {.attends = false, .norms = 1, .tied = true, .mixer = Mixer::mamba}},
    {{"mamba2"}, {.attends = false, .norms = 1, .mixer = Mixer::mamba2}},
    {{"jamba"}, {.mixer = Mixer::mamba}},
    {{"bamba", "falcon_h1", "granitemoehybrid"}, {.mixer = Mixer::mamba2}},
    {{"nemotron_h"},
     {.gated = false, .norms = 1, .squared_relu_experts = true, .mixer = Mixer::mamba2}},
    {{"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"},
     {.query_key_norm = kPerHead, .mixer = Mixer::gated_delta}},
    {{"lfm2", "lfm2_moe"},
     {.query_key_norm = kPerHead, .tied = true, .mixer = Mixer::short_convolution}},
    {{"minimax", "minimax_text_01", "minimax_m1"}, {.mixer = Mixer::lightning}},
    {{"recurrent_gemma"},
     {.halved_columns = true,
      .biases = kOutside,
      .tied = true,
      .mixer = Mixer::gated_recurrence,
      .head_dim = 256,
      .vocabulary = 256000}},
};

std::map<std::string_view, Family> by_model_type() {
  std::map<std::string_view, Family> families;
  for (const auto& [model_types, family] : kArchitectures) {
    for (const std::string_view model_type : model_types) {
      families.emplace(model_type, family).first->second.model_type = model_type;
    }
  }
  return families;
}

}  // namespace

const Family* find_family(std::string_view model_type) {
  static const std::map<std::string_view, Family> families = by_model_type();
  const auto found = families.find(model_type);
  return found == families.end() ? nullptr : &found->second;
}

}  // namespace preserve
