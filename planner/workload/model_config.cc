// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model_config.h"

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/error.h"
#include "common/text.h"
#include "planner/schedule/json_document.h"

namespace preserve {
namespace {

using nlohmann::json;

// Far above any model, far below where products of four of them overflow 64 bits.
constexpr int64_t kMostWidth = 1 << 20;
constexpr int64_t kMostLayers = 1 << 14;
constexpr int64_t kMostVocabulary = 1 << 24;

class ConfigReader {
 public:
  ConfigReader(const json& document, std::string file)
      : document_(document), file_(std::move(file)) {
    if (!document.is_object() || !document.contains("hidden_size")) {
      throw input_error(
          "{} is not a model's config.json: it lacks hidden_size; take the file next to the "
          "weights "
          "on Hugging Face, or one of examples/models",
          file_);
    }
  }

  // The first of `names` that is present and not null.
  std::optional<int64_t> find(std::initializer_list<const char*> names, int64_t most) const {
    for (const char* name : names) {
      const auto value = document_.find(name);
      if (value == document_.end() || value->is_null()) continue;
      if (!value->is_number_integer() || *value < 1 || *value > most) {
        throw input_error("{}: at /{}: {} is not a whole number from 1 to {}", file_, name,
                          printable(value->dump(-1, ' ', false, json::error_handler_t::replace)),
                          most);
      }
      return value->get<int64_t>();
    }
    return std::nullopt;
  }

  int64_t get(std::initializer_list<const char*> names, int64_t most) const {
    const std::optional<int64_t> value = find(names, most);
    if (!value) throw input_error("{}: at /{}: missing", file_, *names.begin());
    return *value;
  }

  bool flag(const char* name) const {
    const auto value = document_.find(name);
    if (value == document_.end() || value->is_null()) return false;
    if (!value->is_boolean()) throw input_error("{}: at /{}: not true or false", file_, name);
    return value->get<bool>();
  }

  void refuse_experts() const {
    for (const char* name : {"num_local_experts", "num_experts", "n_routed_experts"}) {
      if (find({name}, kMostWidth).value_or(1) < 2) continue;
      throw input_error(
          "{}: at /{}: this model routes tokens to experts; their weights cannot be planned ahead: "
          "record a run instead (preserve-profile)",
          file_, name);
    }
  }

 private:
  const json& document_;
  std::string file_;
};

}  // namespace

ModelConfig load_model_config(const std::filesystem::path& path) {
  const json document = parse_json_file(path);
  const ConfigReader reader(document, path.string());
  reader.refuse_experts();
  ModelConfig model;
  model.name = path.stem() == "config" && path.has_parent_path()
                   ? path.parent_path().filename().string()
                   : path.stem().string();
  model.hidden = reader.get({"hidden_size"}, kMostWidth);
  model.intermediate = reader.get({"intermediate_size", "ff_intermediate_size"}, kMostWidth);
  model.layers = reader.get({"num_hidden_layers"}, kMostLayers);
  model.heads = reader.get({"num_attention_heads"}, kMostWidth);
  model.kv_heads = reader.find({"num_key_value_heads"}, kMostWidth).value_or(model.heads);
  model.vocabulary = reader.get({"vocab_size"}, kMostVocabulary);
  model.tied_embeddings = reader.flag("tie_word_embeddings");
  const std::optional<int64_t> head_dim = reader.find({"head_dim"}, kMostWidth);
  if (!head_dim && model.hidden % model.heads != 0) {
    throw input_error("{}: at /num_attention_heads: {} does not divide hidden_size {}",
                      path.string(), model.heads, model.hidden);
  }
  model.head_dim = head_dim.value_or(model.hidden / model.heads);
  if (model.heads % model.kv_heads != 0) {
    throw input_error("{}: at /num_key_value_heads: {} does not divide num_attention_heads {}",
                      path.string(), model.kv_heads, model.heads);
  }
  const std::optional<int64_t> window = reader.find({"sliding_window"}, int64_t{1} << 40);
  const bool slides = !document.contains("use_sliding_window") || reader.flag("use_sliding_window");
  if (slides && window) {
    model.warnings.push_back(fmt::format(
        "{}: sliding_window {} is ignored: attention is taken to read the whole context",
        path.string(), *window));
  }
  return model;
}

}  // namespace preserve
