// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/widths.h"

#include <algorithm>

#include "common/rounded_up.h"

namespace preserve {
namespace {

using nlohmann::json;

constexpr double kMostMultiple = 1 << 10;  // of the hidden size

// The blocks of a model whose layers were chosen one by one (Nemotron of the Puzzle kind).
std::vector<ConfigReader> blocks(const ConfigReader& keys, const char* part, size_t layers) {
  const json* list = keys.find({"block_configs"});
  std::vector<ConfigReader> result;
  if (list == nullptr) return result;
  keys.check_list("block_configs", *list, layers, "objects");
  for (size_t i = 0; i < layers; ++i) {
    const ConfigReader block = keys.object((*list)[i], fmt::format("block_configs/{}", i));
    const json* inner = block.find({part});
    if (inner == nullptr) throw block.error(part, "missing");
    result.push_back(block.object(*inner, part));
    for (const char* other : {"replace_with_linear", "mamba", "moe", "window_length",
                              "num_sink_tokens", "parallel_blocks"}) {
      const json* value = result.back().find({other});
      if (value == nullptr || (value->is_boolean() && !value->get<bool>())) continue;
      throw result.back().error(other, "not modelled: record a run instead (preserve-profile)");
    }
  }
  return result;
}

double multiple_of_hidden(const ConfigReader& keys, const json& value, const char* name) {
  if (!value.is_number() || !(value > 0) || value > kMostMultiple) {
    throw keys.error(name, "not a number above 0, at most {}", kMostMultiple);
  }
  return value.get<double>();
}

// --- heads ---

int64_t uniform_kv_heads(const ConfigReader& keys, const Family& family, int64_t heads) {
  if (keys.flag_or({"multi_query_attention"}, false)) {
    return keys.number_or({"multi_query_group_num"}, 1);
  }
  if (family.model_type == "falcon" && !keys.flag_or({"new_decoder_architecture"}, false)) {
    return keys.flag_or({"multi_query"}, true) ? 1 : heads;
  }
  if (keys.flag_or({"multi_query"}, false) && family.model_type != "falcon") return 1;
  if (const auto value =
          keys.number({"num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads"})) {
    return *value;
  }
  if (const json* nested = keys.find({"attn_config"})) {
    return keys.object(*nested, "attn_config").number_or({"kv_n_heads"}, heads);
  }
  return family.kv_heads > 0 ? family.kv_heads : heads;
}

std::vector<int64_t> kv_heads_of(const ConfigReader& keys, const Family& family,
                                 const std::vector<int64_t>& heads) {
  const size_t layers = heads.size();
  for (const char* name :
       {"num_key_value_heads_per_layer", "num_key_value_heads", "num_kv_heads"}) {
    const json* value = keys.find({name});
    if (value != nullptr && value->is_array()) return *keys.numbers(name, layers, 0);
  }
  std::vector<int64_t> result;
  const std::vector<ConfigReader> chosen = blocks(keys, "attention", layers);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const ConfigReader& block = chosen[i];
    if (block.flag_or({"no_op"}, false)) {
      result.push_back(0);
    } else if (const auto count = block.number({"num_key_value_heads"})) {
      result.push_back(*count);
    } else {
      result.push_back(heads[i] / block.required({"n_heads_in_group"}, 1, heads[i]));
    }
  }
  if (chosen.empty()) result.assign(layers, uniform_kv_heads(keys, family, heads.front()));
  return result;
}

// --- MLP ---

// Two thirds of the stated width, rounded up to a multiple.
int64_t lfm2_columns(const ConfigReader& keys, int64_t columns) {
  if (!keys.flag_or({"block_auto_adjust_ff_dim"}, true)) return columns;
  return rounded_up(2 * columns / 3, keys.number_or({"block_multiple_of"}, 256));
}

int64_t uniform_columns(const ConfigReader& keys, const Family& family, int64_t hidden,
                        std::vector<std::string>& warnings) {
  const auto need = [&](ConfigReader::Names names) {
    return keys.number_or_default(names, family.intermediate, family.model_type, warnings);
  };
  if (family.model_type == "llama4_text") return need({"intermediate_size_mlp"});
  // Granite's MLP without experts is the one that it shares with them.
  if (family.model_type == "granitemoehybrid") {
    if (const auto shared = keys.number({"shared_intermediate_size"})) return *shared;
  }
  if (family.model_type == "lfm2") {
    return lfm2_columns(keys, need({"block_ff_dim", "intermediate_size"}));
  }
  const ConfigReader::Names names{"intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size",
                                  "ff_intermediate_size"};
  if (const auto value = keys.number(names)) return family.halved_columns ? *value / 2 : *value;
  for (const std::string_view four :
       {"gpt2", "gpt_bigcode", "gptj", "gpt_neo", "codegen", "bloom", "falcon"}) {
    if (family.model_type == four) return 4 * hidden;
  }
  if (family.model_type == "mpt") return keys.number_or({"expansion_ratio"}, 4, 1, 64) * hidden;
  return need(names);
}

// As OpenELM rounds a width: to the nearest multiple that is at least nine tenths of it.
int64_t openelm_columns(double width, int64_t divisor) {
  const auto near = static_cast<int64_t>(width + static_cast<double>(divisor) / 2);
  const int64_t columns = std::max(divisor, near / divisor * divisor);
  return static_cast<double>(columns) < 0.9 * width ? columns + divisor : columns;
}

}  // namespace

HeadCounts read_heads(const ConfigReader& keys, const Family& family, int64_t hidden, size_t layers,
                      std::vector<std::string>& warnings) {
  HeadCounts counts;
  if (!family.attends) {
    counts.queries.assign(layers, 0);
    counts.keys.assign(layers, 0);
    return counts;
  }
  if (const auto list = keys.numbers("num_query_heads", layers, 1)) {
    counts.queries = *list;
  } else {
    counts.queries.assign(
        layers, keys.number_or_default({"num_attention_heads", "n_head", "n_heads", "num_heads"},
                                       family.heads, family.model_type, warnings));
  }
  const int64_t heads = counts.queries.front();
  const auto stated = keys.number(
      {"head_dim", "attention_head_dim", "kv_channels", "head_size", "attention_head_size"});
  if (stated || family.head_dim > 0) {
    counts.head_dim = stated.value_or(family.head_dim);
  } else if (!keys.has("kv_lora_rank")) {
    if (hidden % heads != 0) {
      throw keys.error("num_attention_heads", "{} does not divide hidden_size {}", heads, hidden);
    }
    counts.head_dim = hidden / heads;
  }
  counts.keys = kv_heads_of(keys, family, counts.queries);
  for (size_t i = 0; i < layers; ++i) {
    if (counts.keys[i] == 0 || counts.queries[i] % counts.keys[i] == 0) continue;
    throw keys.error("num_key_value_heads", "{} does not divide num_attention_heads {}",
                     counts.keys[i], counts.queries[i]);
  }
  return counts;
}

std::vector<int64_t> read_mlp_columns(const ConfigReader& keys, const Family& family,
                                      int64_t hidden, size_t layers,
                                      std::vector<std::string>& warnings) {
  std::vector<int64_t> columns;
  if (const json* list = keys.find({"ffn_multipliers"})) {
    keys.check_list("ffn_multipliers", *list, layers, "numbers");
    const int64_t divisor = keys.number_or({"ffn_dim_divisor"}, 256);
    for (const json& item : *list) {
      columns.push_back(openelm_columns(
          multiple_of_hidden(keys, item, "ffn_multipliers") * static_cast<double>(hidden),
          divisor));
    }
    return columns;
  }
  for (const ConfigReader& block : blocks(keys, "ffn", layers)) {
    const json* multiple = block.find({"ffn_mult"});
    if (block.flag_or({"no_op"}, false)) {
      columns.push_back(0);
    } else if (const auto stated = block.number({"intermediate_size"})) {
      columns.push_back(*stated);
    } else if (multiple == nullptr) {
      throw block.error("ffn_mult", "missing");
    } else {
      const double width =
          2 * multiple_of_hidden(block, *multiple, "ffn_mult") * static_cast<double>(hidden) / 3;
      columns.push_back(rounded_up(static_cast<int64_t>(width), 256));
    }
  }
  if (columns.empty()) columns.assign(layers, uniform_columns(keys, family, hidden, warnings));
  return columns;
}

}  // namespace preserve
