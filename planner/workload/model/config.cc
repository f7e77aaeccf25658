// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/config.h"

#include <algorithm>
#include <array>

#include "common/error.h"
#include "common/text.h"
#include "planner/workload/model/config_reader.h"
#include "planner/workload/model/families.h"
#include "planner/workload/model/layers.h"
#include "planner/workload/model/mixers.h"
#include "planner/workload/model/quantization.h"
#include "planner/workload/model/widths.h"

namespace preserve {
namespace {

using nlohmann::json;

constexpr int64_t kMostVocabulary = 1 << 24;
constexpr ConfigReader::Names kHiddenNames{"hidden_size", "n_embd", "d_model",
                                           "n_embed",     "dim",    "model_dim"};
constexpr std::array kNestedNames{"text_config", "language_config", "llm_config"};

// Keys that change what a step reads in a way that is not modelled.
struct Refusal {
  const char* key;
  const char* why;
};
constexpr std::array kRefusals{
    Refusal{"num_kv_shared_layers", "layers share their KV-cache"},
    Refusal{"use_cla", "layers share their KV-cache"},
    Refusal{"cross_attention_layers", "layers attend to an image"},
    Refusal{"index_topk", "an indexer chooses the tokens that attention reads"},
    Refusal{"linear_attn_config", "layers of linear attention have shapes of their own"},
    Refusal{"hybrid_layer_pattern", "sliding layers have heads of their own"},
    Refusal{"global_head_dim", "sliding layers have heads of their own"},
    Refusal{"altup_num_inputs", "several copies of the hidden state are mixed"},
    Refusal{"num_zero_experts", "some experts do nothing"},
};

// What of a model is text, where it is in the file, and the keys of the whole.
struct Text {
  ConfigReader whole, keys;
  std::string model_type;
};

Text find_text(const std::filesystem::path& path) {
  json document = parse_python_json(path);
  const std::string file = path.string();
  const auto refuse = [&] {
    return input_error(
        "{} is not a model's config.json: it lacks model_type and hidden_size; take the file next "
        "to the weights on Hugging Face, or one of examples/models",
        file);
  };
  if (!document.is_object()) throw refuse();
  const ConfigReader whole(document, file, "");
  std::string model_type = whole.word({"model_type"}).value_or("");
  ConfigReader keys = whole;
  // Some models that also see repeat a width of their text beside it.
  const bool flat = whole.find(kHiddenNames) != nullptr && find_family(model_type) != nullptr;
  for (const char* nested : kNestedNames) {
    if (flat || !document.contains(nested)) continue;
    keys = whole.object(document[nested], nested);
    break;
  }
  const bool within = !keys.place().empty();
  if (!within && model_type.empty() && keys.find(kHiddenNames) == nullptr) throw refuse();
  if (within) model_type = keys.word({"model_type"}).value_or(model_type);
  return {whole, std::move(keys), std::move(model_type)};
}

const Family& family_of(const Text& text, bool assume_llama) {
  if (text.whole.flag_or({"is_encoder_decoder"}, false)) {
    throw text.whole.error("is_encoder_decoder",
                           "a step of an encoder and decoder is not modelled");
  }
  if (const json* list = text.whole.find({"architectures"}); list != nullptr && list->is_array()) {
    for (const json& item : *list) {
      const std::string name = item.is_string() ? item.get<std::string>() : "";
      const bool generates = name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel") ||
                             name.ends_with("ForConditionalGeneration");
      if (name.find("For") != std::string::npos && !generates) {
        throw text.whole.error("architectures", "{} does not generate text", printable(name));
      }
    }
  }
  for (const auto& [key, why] : kRefusals) {
    const json* value = text.keys.find({key});
    const bool off = value != nullptr && ((value->is_boolean() && !value->get<bool>()) ||
                                          (value->is_number_integer() && *value == 0) ||
                                          (value->is_array() && value->empty()));
    if (value == nullptr || off) continue;
    throw text.keys.error(key, "{}, which is not modelled: record a run instead (preserve-profile)",
                          why);
  }
  if (const Family* family = find_family(text.model_type)) return *family;
  if (assume_llama) return *find_family("llama");
  throw text.keys.error(
      "model_type",
      "{}: plan it as Llama's architecture with --assume llama if it "
      "is, or record a run (preserve-profile)",
      text.model_type.empty() ? "missing" : "'" + printable(text.model_type) + "' is not known");
}

class ModelReader {
 public:
  ModelReader(const Text& text, const Family& family) : keys_(text.keys), family_(family) {
    model_.model_type = text.model_type;
    model_.hidden = size(kHiddenNames, family.hidden);
    layers_ =
        size({"num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers"},
             family.layers, kMostLayers);
    model_.vocabulary =
        size({"vocab_size", "padded_vocab_size"}, family.vocabulary, kMostVocabulary);
    model_.tied_embeddings =
        keys_.flag({"tie_word_embeddings", "tie_embedding", "share_input_output_layers"})
            .value_or(text.whole.flag_or({"tie_word_embeddings"}, family.tied));
  }

  ModelConfig read() {
    check_embedding();
    heads_ =
        read_heads(keys_, family_, model_.hidden, static_cast<size_t>(layers_), model_.warnings);
    read_experts();
    const std::vector<LayerKind> kinds =
        read_layer_kinds(keys_, family_, static_cast<size_t>(layers_), experts_.has_value());
    for (size_t i = 0; i < kinds.size(); ++i) model_.layers.push_back(layer(kinds[i], i));
    const int64_t norm = model_.hidden * (family_.layer_norm ? 2 : 1);
    if (family_.final_norm) model_.other_parameters += norm;
    if (family_.learned_positions) {
      model_.other_parameters +=
          model_.hidden *
          keys_.number_or({"max_position_embeddings", "n_positions"}, 0, 1, 1 << 24);
    }
    if (family_.head_bias) model_.other_parameters += model_.vocabulary;
    if (family_.model_type == "phi3small") {
      model_.warnings.push_back(keys_.file() +
                                ": its block-sparse attention is taken to read the whole context");
    }
    return std::move(model_);
  }

 private:
  // One of `names`, else the library's default, which is then stated.
  int64_t size(ConfigReader::Names names, int64_t fallback, int64_t most = kMostWidth) {
    return keys_.number_or_default(names, fallback, family_.model_type, model_.warnings, most);
  }

  // OPT-350m projects narrower embeddings to the width of its layers.
  void check_embedding() const {
    const auto width = keys_.number({"word_embed_proj_dim"});
    if (!width || *width == model_.hidden) return;
    throw keys_.error("word_embed_proj_dim", "{} is not the hidden_size {}, which is not modelled",
                      *width, model_.hidden);
  }

  bool latent() const {
    if (keys_.has("kv_lora_rank")) return true;
    if (family_.latent && keys_.flag_or({"use_mla"}, true)) {
      throw keys_.error("kv_lora_rank", "missing: how wide the latent of attention is");
    }
    return false;
  }

  // --- experts ---

  void read_experts() {
    const ConfigReader::Names counts{"num_local_experts", "num_experts",
                                     "n_routed_experts",  "moe_num_experts",
                                     "num_moe_experts",   "moe_num_primary_experts"};
    int64_t count = 0;
    const ConfigReader keys = experts_keys();
    for (const char* name : counts) {
      count = std::max(count, keys.number_or({name}, 0, 0));
    }
    if (count < 2) return;
    ExpertsShape shape;
    shape.count = count;
    const auto chosen = keys.number({"num_experts_per_tok", "moe_k", "moe_top_k", "moe_topk",
                                     "num_experts_per_token", "top_k_experts"},
                                    1, count);
    if (!chosen) {
      throw keys_.error("num_experts_per_tok",
                        "missing: how many of its {} experts this model "
                        "uses for a token is not known",
                        count);
    }
    shape.chosen = *chosen;
    shape.columns = keys.number_or_default({"moe_intermediate_size", "expert_intermediate_size",
                                            "intermediate_size", "ffn_hidden_size"},
                                           0, family_.model_type, model_.warnings);
    shape.gated = family_.gated && !family_.squared_relu_experts;
    shape.shared_columns = shared_columns(shape.columns);
    if (keys_.has("shared_expert_intermediate_size")) shape.other_parameters += model_.hidden;
    if (family_.biases.mlp) {
      shape.other_parameters +=
          count * (1 + (shape.gated ? 2 * shape.columns : shape.columns) + model_.hidden);
    }
    experts_ = shape;
  }

  // DBRX has an object for its experts.
  ConfigReader experts_keys() const {
    const json* nested = keys_.find({"ffn_config"});
    return nested == nullptr ? keys_ : keys_.object(*nested, "ffn_config");
  }

  int64_t shared_columns(int64_t columns) const {
    if (const auto stated =
            keys_.number({"shared_expert_intermediate_size", "shared_intermediate_size",
                          "moe_shared_expert_intermediate_size"},
                         0)) {
      return *stated;
    }
    if (family_.model_type == "llama4_text") return columns;
    const int64_t count = keys_.number_or(
        {"n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"},
        0, 0, 1 << 10);
    return count * columns;
  }

  // --- layers ---

  LayerShape layer(const LayerKind& kind, size_t index) {
    LayerShape shape;
    if (kind.attention && heads_.keys[index] > 0) shape.attention = attention(index, kind.window);
    if (kind.mixer) {
      shape.mixer =
          read_mixer(keys_, family_, model_.hidden, heads_.queries[index], heads_.head_dim);
    }
    if (kind.experts) {
      shape.experts = experts_;
      if (!experts_) throw keys_.error("n_routed_experts", "missing, but layers route to experts");
    } else if (kind.mlp) {
      shape.mlp = mlp(index);
    }
    int64_t norms = family_.norms;
    if (family_.model_type == "falcon" && keys_.flag_or({"new_decoder_architecture"}, false)) {
      norms = 2;
    }
    const bool mixes = shape.attention || shape.mixer;
    if (norms == 2 && mixes != (shape.mlp || shape.experts)) norms = 1;
    shape.post_norms = family_.norms == 4;
    shape.norm_parameters = norms * model_.hidden * (family_.layer_norm ? 2 : 1);
    return shape;
  }

  AttentionShape attention(size_t index, int64_t window) {
    const int64_t heads = heads_.queries[index], head_dim = heads_.head_dim;
    AttentionShape shape;
    shape.heads = heads;
    shape.window = window;
    if (latent()) {
      shape.latent_rope = keys_.required({"qk_rope_head_dim"});
      shape.latent = keys_.required({"kv_lora_rank"}) + shape.latent_rope;
      shape.head_dim = keys_.required({"qk_nope_head_dim"}) + shape.latent_rope;
      shape.query_rank = keys_.number_or({"q_lora_rank"}, 0);
      shape.value_dim = keys_.number_or({"v_head_dim"}, model_.hidden / heads);
      shape.other_parameters = shape.latent - shape.latent_rope + shape.query_rank;
      return shape;
    }
    shape.kv_heads = heads_.keys[index];
    shape.head_dim = head_dim;
    shape.gated = family_.mixer == Mixer::gated_delta;  // Qwen3-Next's attention has a gate
    const int64_t queries = heads * head_dim, keys = shape.kv_heads * head_dim;
    const bool all = keys_.flag_or({"use_bias", "bias"}, false);
    const auto stated = keys_.flag({"attention_bias", "qkv_bias", "add_qkv_bias", "use_qkv_bias"});
    if (stated.value_or(family_.biases.query || all)) shape.other_parameters += queries + 2 * keys;
    if (all || family_.biases.output || (stated.value_or(false) && !family_.biases.query)) {
      shape.other_parameters += model_.hidden;
    }
    const bool norms =
        keys_.flag_or({"use_qk_norm", "qk_layernorm", "normalize_qk_projections"}, true);
    if (norms && family_.query_key_norm == QueryKeyNorm::per_head) {
      shape.other_parameters += 2 * head_dim;
    } else if (norms && family_.query_key_norm == QueryKeyNorm::whole) {
      shape.other_parameters += queries + keys;
    }
    return shape;
  }

  std::optional<MlpShape> mlp(size_t index) {
    if (mlp_columns_.empty()) {
      mlp_columns_ = read_mlp_columns(keys_, family_, model_.hidden, static_cast<size_t>(layers_),
                                      model_.warnings);
    }
    if (mlp_columns_[index] == 0) return std::nullopt;
    MlpShape shape;
    shape.gated = family_.gated;
    shape.columns = mlp_columns_[index];
    const bool bias = keys_.flag_or({"mlp_bias", "use_mlp_bias"}, family_.biases.mlp);
    if (bias) shape.other_parameters = shape.columns * (shape.gated ? 2 : 1) + model_.hidden;
    return shape;
  }

  const ConfigReader& keys_;
  const Family& family_;
  ModelConfig model_;
  int64_t layers_ = 0;
  HeadCounts heads_;
  std::vector<int64_t> mlp_columns_;  // read for the first layer that has an MLP
  std::optional<ExpertsShape> experts_;
};

// What the index of the weights beside the file says that they are.
void read_index(const std::filesystem::path& path, const ConfigReader& whole, ModelConfig& model) {
  const std::filesystem::path index = path.parent_path() / "model.safetensors.index.json";
  if (!std::filesystem::exists(index)) return;
  const json document = parse_python_json(index);
  const json metadata = document.is_object() ? document.value("metadata", json()) : json();
  if (!metadata.is_object()) return;
  const ConfigReader keys(metadata, index.string(), "/metadata");
  constexpr int64_t kMost = int64_t{1} << 53;
  model.indexed_parameters = keys.number({"total_parameters"}, 1, kMost);
  if (model.indexed_parameters) return;
  const auto bytes = keys.number({"total_size"}, 1, kMost);
  const std::string type = whole.word({"torch_dtype", "dtype"}).value_or("");
  if (!bytes || find_quantization(whole) != nullptr) return;
  if (type == "bfloat16" || type == "float16") model.indexed_parameters = *bytes / 2;
  if (type == "float32") model.indexed_parameters = *bytes / 4;
}

}  // namespace

ModelConfig load_model_config(const std::filesystem::path& path, bool assume_llama) {
  const Text text = find_text(path);
  const Family& family = family_of(text, assume_llama);
  ModelConfig model = ModelReader(text, family).read();
  model.name = path.stem() == "config" && path.has_parent_path()
                   ? path.parent_path().filename().string()
                   : path.stem().string();
  read_quantization(find_quantization(text.whole) != nullptr ? text.whole : text.keys, model);
  read_index(path, text.whole, model);
  if (find_family(text.model_type) == nullptr) {
    model.warnings.push_back(fmt::format("{}: model_type '{}' is taken for Llama's architecture",
                                         path.string(), printable(text.model_type)));
  }
  return model;
}

}  // namespace preserve
