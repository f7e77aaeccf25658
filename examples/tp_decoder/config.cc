// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "examples/tp_decoder/error.h"

namespace tp_decoder {
namespace {

using Json = nlohmann::json;

// Far above every published model, and small enough that no product of sizes overflows 64 bits.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxHeads = 1 << 10;
constexpr int64_t kMaxHeadDim = 1 << 10;
constexpr int64_t kMaxLayers = 1 << 10;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxContext = 1 << 24;
constexpr size_t kMaxFileBytes = 1 << 20;

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

// One JSON object whose complaints name the file and the key.
class Section {
 public:
  Section(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  [[noreturn]] void fail(std::string_view key, std::string_view what) const {
    throw Error(fmt::format("{}: {}: {}", where_, key, what));
  }

  // A key that is null counts as absent: Hugging Face writes both.
  bool has(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
  }

  int64_t integer(const char* key, int64_t low, int64_t high) const {
    if (!has(key)) fail(key, "missing; an integer is needed");
    const Json& value = object_.at(key);
    // Above int64 the parser makes an unsigned number: compare it as one.
    const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= uint64_t(high)
                                                 : value.is_number_integer();
    if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high) {
      fail(key, fmt::format("must be an integer from {} to {}, is {}", low, high, shown(value)));
    }
    return value.get<int64_t>();
  }
  int64_t integer(const char* key, int64_t low, int64_t high, int64_t fallback) const {
    return has(key) ? integer(key, low, high) : fallback;
  }

  double number(const char* key, double low, double high, double fallback) const {
    if (!has(key)) return fallback;
    const Json& value = object_.at(key);
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
      fail(key, fmt::format("must be a number from {} to {}, is {}", low, high, shown(value)));
    }
    return value.get<double>();
  }

  bool flag(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!object_.at(key).is_boolean()) {
      fail(key, fmt::format("must be true or false, is {}", shown(object_.at(key))));
    }
    return object_.at(key).get<bool>();
  }

  std::string text(const char* key, const char* fallback) const {
    if (!has(key)) return fallback;
    if (!object_.at(key).is_string()) {
      fail(key, fmt::format("must be a string, is {}", shown(object_.at(key))));
    }
    return object_.at(key).get<std::string>();
  }

  Section section(const char* key) const {
    if (!object_.at(key).is_object()) {
      fail(key, fmt::format("must be an object, is {}", shown(object_.at(key))));
    }
    return Section(object_.at(key), where_ + ": " + key);
  }

 private:
  const Json& object_;
  std::string where_;
};

Json read_json(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(fmt::format("{}: is a folder; give the config.json inside it", path.string()));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(fmt::format("{}: cannot be opened for reading", path.string()));
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    throw Error(fmt::format("{}: larger than 1 MiB, so not a model's config.json", path.string()));
  }
  Json root;
  try {
    root = Json::parse(text);
  } catch (const Json::exception& error) {
    throw Error(fmt::format("{}: not valid JSON: {}", path.string(), error.what()));
  }
  if (!root.is_object()) {
    throw Error(fmt::format("{}: holds no JSON object, so not a config.json", path.string()));
  }
  return root;
}

// Keys that change the mathematics of the block in a way this decoder does not compute.
void refuse_other_mathematics(const Section& config) {
  const std::string act = config.text("hidden_act", "silu");
  if (act != "silu") config.fail("hidden_act", "only \"silu\" (SwiGLU) is supported");
  if (config.number("partial_rotary_factor", 0, 1, 1) != 1) {
    config.fail("partial_rotary_factor", "only 1 (the whole head is rotated) is supported");
  }
  if (config.flag("mlp_bias", false)) config.fail("mlp_bias", "only false is supported");
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (config.has(key)) config.fail(key, "mixture-of-experts models are not supported");
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    const Section rope = config.section(key);
    const std::string type = rope.text("rope_type", rope.text("type", "default").c_str());
    if (type != "default") {
      config.fail(key,
                  "only the unscaled rotation is supported; set it to null and keep "
                  "max_position_embeddings to the length the model was trained for");
    }
  }
}

double rope_theta(const Section& config) {
  constexpr double kLlama2Theta = 10000;  // what the transformers library assumes
  const double nested =
      config.has("rope_parameters")
          ? config.section("rope_parameters").number("rope_theta", 1, 1e12, kLlama2Theta)
          : kLlama2Theta;
  return config.number("rope_theta", 1, 1e12, nested);
}

// Attention inside a window equals full attention as long as the context is not longer.
int64_t longest_context(const Section& config, const std::string& family) {
  const int64_t positions = config.integer("max_position_embeddings", 1, kMaxContext, 2048);
  const bool windowed = config.flag("use_sliding_window", family != "qwen2");
  if (!windowed || !config.has("sliding_window")) return positions;
  return std::min(positions, config.integer("sliding_window", 1, kMaxContext));
}

void read_llama_keys(const Section& config, ModelConfig& model) {
  refuse_other_mathematics(config);
  model.ffn = config.integer("intermediate_size", 1, kMaxWidth);
  model.norm_eps = static_cast<float>(config.number("rms_norm_eps", 1e-12, 1, 1e-6));
  model.rope_theta = rope_theta(config);
  model.o_bias = config.flag("attention_bias", false);
  model.qkv_bias = model.o_bias || model.family == "qwen2";
}

// LayerNorm, gegelu, block-sparse attention and muP scaling: the same matrices, other mathematics.
void read_phi3small_keys(const Section& config, bool shapes_only, ModelConfig& model) {
  if (!shapes_only) {
    config.fail("model_type",
                "\"phi3small\" (LayerNorm, gegelu, block-sparse attention) is not a "
                "Llama block; --shapes-only runs its matrix shapes as one");
  }
  model.ffn = config.integer("ff_intermediate_size", 1, kMaxWidth);
  model.norm_eps = static_cast<float>(config.number("layer_norm_epsilon", 1e-12, 1, 1e-5));
  model.rope_theta = config.number("rope_embedding_base", 1, 1e12, 1e6);
  model.qkv_bias = model.o_bias = config.flag("attention_bias", false);
}

void read_heads(const Section& config, ModelConfig& model) {
  model.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  model.kv_heads = config.integer("num_key_value_heads", 1, kMaxHeads, model.heads);
  if (model.heads % model.kv_heads != 0) {
    config.fail("num_key_value_heads", fmt::format("{} does not divide num_attention_heads {}",
                                                   model.kv_heads, model.heads));
  }
  if (!config.has("head_dim") && model.hidden % model.heads != 0) {
    config.fail("num_attention_heads", fmt::format("{} does not divide hidden_size {}, and there "
                                                   "is no head_dim",
                                                   model.heads, model.hidden));
  }
  model.head_dim = config.integer("head_dim", 2, kMaxHeadDim, model.hidden / model.heads);
  if (model.head_dim % 2 != 0 || model.head_dim > kMaxHeadDim) {
    config.fail("head_dim",
                fmt::format("must be even and at most {}, is {}", kMaxHeadDim, model.head_dim));
  }
}

}  // namespace

ModelConfig load_config(const std::filesystem::path& path, bool shapes_only) {
  const Json root = read_json(path);
  const Section config(root, path.string());
  ModelConfig model;
  model.name = path.stem().string();
  model.family = config.text("model_type", "llama");
  model.hidden = config.integer("hidden_size", 2, kMaxWidth);
  model.layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  model.vocab = config.integer("vocab_size", 2, kMaxVocab);
  model.max_context = longest_context(config, model.family);
  model.tied_embeddings = config.flag("tie_word_embeddings", false);
  read_heads(config, model);
  if (model.family == "phi3small") {
    read_phi3small_keys(config, shapes_only, model);
  } else if (model.family == "llama" || model.family == "mistral" || model.family == "qwen2" ||
             model.family == "phi3") {
    read_llama_keys(config, model);
  } else {
    config.fail("model_type", fmt::format("{} is not supported; supported are llama, mistral, "
                                          "qwen2, phi3, and phi3small with --shapes-only",
                                          shown(root.at("model_type"))));
  }
  return model;
}

}  // namespace tp_decoder
