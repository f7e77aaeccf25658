// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/quantization.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "common/text.h"

namespace preserve {
namespace {

using nlohmann::json;

constexpr int64_t kLargestGroup = 1 << 20;

class QuantizationReader {
 public:
  explicit QuantizationReader(ConfigReader own) : own_(std::move(own)) {}

  NumberFormat weights() const {
    const std::string method = own_.word({"quant_method"}).value_or("");
    if (method == "fp8" || method == "fbgemm_fp8") return blocks_of_fp8();
    if (method == "mxfp4") return {WeightType::fp4, 32, 1};
    if (method == "compressed-tensors" || own_.has("config_groups")) return of_groups();
    if (method == "modelopt") return of_algorithm("quant_algo");
    if (method == "bitsandbytes") {
      if (own_.flag_or({"load_in_8bit"}, false)) return WeightType::int8;
      if (own_.flag_or({"load_in_4bit"}, false)) {
        // A scale in 32 bits, itself quantised to 8 when asked.
        const bool twice = own_.flag_or({"bnb_4bit_use_double_quant"}, false);
        return {WeightType::int4, 64, twice ? 1.0 : 4.0};
      }
    }
    if (method == "gptq" || method == "awq" || method == "auto-round") {
      return of_integers(own_.number({"bits", "w_bit"}, 1, 16).value_or(4), own_);
    }
    // MLX writes no method: a scale and an offset in 16 bits per group.
    if (method.empty() && own_.has("bits") && own_.has("group_size")) {
      NumberFormat format = of_integers(own_.number_or({"bits"}, 4, 1, 16), own_);
      if (format.group > 0) format.scale_bytes = 4;
      return format;
    }
    throw own_.error("quant_method",
                     "'{}' is not understood: state --dtype and remove the key, or take "
                     "the configuration of the model that was quantised",
                     printable(method));
  }

  WeightType kv() const {
    if (const json* scheme = own_.find({"kv_cache_scheme"})) {
      const ConfigReader cache(*scheme, own_.file(), own_.place() + "/kv_cache_scheme");
      return of_bits(cache.number_or({"num_bits"}, 8, 1, 16),
                     cache.word({"type"}).value_or("float"), "kv_cache_scheme")
          .type;
    }
    if (own_.has("kv_cache_quant_algo")) return of_algorithm("kv_cache_quant_algo").type;
    return WeightType::fp16;
  }

  // Do the modules that stay 16-bit include this part ("attn") of every layer?
  bool leaves(std::string_view part, size_t layers) const {
    const json* list =
        own_.find({"modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules"});
    if (list == nullptr || !list->is_array()) return false;
    std::set<std::string> named;  // "12" of model.layers.12.self_attn.q_proj
    for (const json& item : *list) {
      if (!item.is_string()) continue;
      const auto& text = item.get_ref<const std::string&>();
      if (!names_decoder_part(text, part)) continue;
      if (text.starts_with("re:")) return true;  // a pattern over the layers
      const auto digit =
          std::ranges::find_if(text, [](unsigned char c) { return std::isdigit(c) != 0; });
      if (digit == text.end()) return true;
      const auto end =
          std::find_if(digit, text.end(), [](unsigned char c) { return std::isdigit(c) == 0; });
      named.insert(std::string(digit, end));
    }
    return !named.empty() && named.size() >= layers;
  }

 private:
  // What sees, the gate of a shared expert and linear attention have names that hold those of the
  // decoder's attention and experts.
  static bool names_decoder_part(std::string_view text, std::string_view part) {
    for (const char* other : {"visual", "vision", "linear_attn", "shared_expert_gate"}) {
      if (text.find(other) != std::string_view::npos) return false;
    }
    return text.find(part) != std::string_view::npos;
  }

  NumberFormat blocks_of_fp8() const {
    const json* block = own_.find({"weight_block_size"});
    if (block == nullptr) return WeightType::fp8;
    if (!block->is_array() || block->size() != 2) {
      throw own_.error("weight_block_size", "not a list of two numbers");
    }
    int64_t group = 1;
    for (const json& side : *block) {
      if (!side.is_number_integer() || side < 1 || side > kLargestGroup) {
        throw own_.error("weight_block_size", "not two whole numbers from 1 to {}", kLargestGroup);
      }
      group *= side.get<int64_t>();
    }
    return {WeightType::fp8, group, 4};
  }

  NumberFormat of_groups() const {
    const json* groups = own_.find({"config_groups"});
    if (groups == nullptr || !groups->is_object() || groups->empty()) {
      throw own_.error("config_groups", "missing");
    }
    std::optional<NumberFormat> format;
    for (const auto& [name, group] : groups->items()) {
      const json weights = group.is_object() ? group.value("weights", json()) : json();
      if (!weights.is_object()) continue;
      const ConfigReader keys(weights, own_.file(), own_.place() + "/config_groups");
      const int64_t bits = keys.number_or({"num_bits"}, 8, 1, 16);
      const std::string type = keys.word({"type"}).value_or("int");
      NumberFormat one = of_bits(bits, type, "config_groups");
      if (one.group > 0) one.group = keys.number_or({"group_size"}, one.group, 1, kLargestGroup);
      if (format && *format != one) {
        throw own_.error("config_groups",
                         "weights of different formats: plan with --dtype and the "
                         "configuration of the model that was quantised");
      }
      format = one;
    }
    return format.value_or(NumberFormat());
  }

  NumberFormat of_algorithm(const char* name) const {
    const std::string word = own_.word({name}).value_or("");
    if (word == "FP8" || word == "FP8_PB_WO" || word == "FP8_PER_CHANNEL_PER_TOKEN") {
      return WeightType::fp8;
    }
    if (word == "NVFP4" || word == "FP4") return WeightType::fp4;
    if (word == "INT8" || word == "W8A8_SQ_PER_CHANNEL") return WeightType::int8;
    if (word == "W4A16_AWQ" || word == "W4A8_AWQ") return of_integers(4, own_);
    throw own_.error(name, "'{}' is not understood", printable(word));
  }

  NumberFormat of_integers(int64_t bits, const ConfigReader& keys) const {
    if (bits == 8) return WeightType::int8;
    if (bits != 4) throw own_.error("bits", "{} is neither 4 nor 8", bits);
    NumberFormat format = WeightType::int4;
    const int64_t group =
        keys.number_or({"group_size", "q_group_size"}, format.group, -1, kLargestGroup);
    format.group = std::max<int64_t>(group, 0);  // -1: one scale per row
    return format;
  }

  NumberFormat of_bits(int64_t bits, const std::string& type, const char* name) const {
    if (bits == 16) return WeightType::fp16;
    if (bits == 8) return type == "float" ? WeightType::fp8 : WeightType::int8;
    if (bits == 4) return type == "float" ? WeightType::fp4 : WeightType::int4;
    throw own_.error(name, "num_bits {} is not 4, 8 or 16", bits);
  }

  const ConfigReader own_;
};

}  // namespace

const json* find_quantization(const ConfigReader& keys) {
  return keys.find({"quantization_config", "compression_config", "quantization"});
}

void read_quantization(const ConfigReader& keys, ModelConfig& model) {
  const json* config = find_quantization(keys);
  if (config == nullptr) return;
  const ConfigReader own = keys.object(*config, "quantization_config");
  const QuantizationReader reader(own);
  model.attention_weights = model.mlp_weights = model.expert_weights = reader.weights();
  const size_t layers = model.layers.size();
  if (reader.leaves("attn", layers)) model.attention_weights = NumberFormat();
  if (reader.leaves("shared_expert", layers)) model.mlp_weights = NumberFormat();
  model.kv_type = reader.kv();
  // MXFP4 is a format of experts: the models that are published in it keep all else in 16 bits.
  if (own.word({"quant_method"}) == "mxfp4") model.mlp_weights = NumberFormat();
}

}  // namespace preserve
