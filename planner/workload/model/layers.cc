// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/layers.h"

#include <algorithm>
#include <set>

#include "common/as_index.h"
#include "common/text.h"

namespace preserve {
namespace {

using nlohmann::json;

constexpr int64_t kLongestWindow = int64_t{1} << 40;

class LayerKinds {
 public:
  LayerKinds(const ConfigReader& keys, const Family& family, size_t count)
      : keys_(keys), family_(family), kinds_(count) {}

  std::vector<LayerKind> read(bool routes) {
    const bool listed = read_lists();
    if (!listed) read_periods();
    const bool attends = std::ranges::any_of(kinds_, &LayerKind::attention);
    if (attends && !slides_by_list_) slide();
    if (routes && !routes_by_list_) route();
    if (family_.model_type == "falcon_h1") {
      for (LayerKind& kind : kinds_) kind.mixer = true;
    }
    const bool mixes = std::ranges::any_of(kinds_, &LayerKind::mixer);
    if (mixes && family_.mixer == Mixer::none) {
      throw keys_.error("layer_types",
                        "layers of other kinds than attention are not understood "
                        "for model_type '{}'",
                        family_.model_type);
    }
    return std::move(kinds_);
  }

 private:
  // --- lists ---

  // Is what each layer mixes with stated layer by layer?
  bool read_lists() {
    if (const auto pattern = keys_.word({"hybrid_override_pattern"})) {
      if (pattern->size() != kinds_.size()) {
        throw keys_.error("hybrid_override_pattern", "{} letters for {} layers", pattern->size(),
                          kinds_.size());
      }
      for (size_t i = 0; i < kinds_.size(); ++i) kinds_[i] = kind_of_letter((*pattern)[i]);
      routes_by_list_ = true;
      return true;
    }
    if (read_words({"layer_types", "layers_block_type", "layer_block_types"})) return true;
    if (const json* list = keys_.find({"block_types", "_block_types"})) return tile(*list);
    if (read_words({"attention_layers"})) return true;
    if (keys_.has("attention_types")) {
      throw keys_.error("attention_types",
                        "stated without attention_layers, which is not modelled");
    }
    if (const auto types = keys_.numbers("attn_type_list", kinds_.size(), 0, 1)) {
      mix_unless([&](int64_t layer) { return (*types)[as_index(layer)] == 1; });
      return true;
    }
    for (const char* name : {"attn_layer_indices", "full_attn_idxs"}) {
      if (!keys_.has(name)) continue;
      const std::set<int64_t> attending = indices(name);
      mix_unless([&](int64_t layer) { return attending.contains(layer); });
      return true;
    }
    return false;
  }

  bool read_words(ConfigReader::Names names) {
    const auto words = keys_.words(names, kinds_.size());
    if (!words) return false;
    for (size_t i = 0; i < kinds_.size(); ++i) kinds_[i] = kind_of_word((*words)[i]);
    slides_by_list_ = true;
    return true;
  }

  // Repeats the kinds of the first layers over all.
  bool tile(const json& list) {
    if (!list.is_array() || list.empty()) throw keys_.error("block_types", "not a list of words");
    mix_unless([&](int64_t layer) {
      const json& word = list[as_index(layer) % list.size()];
      if (word == "attention" || word == "recurrent") return word == "attention";
      throw keys_.error("block_types", "layers of the kind {} are not understood",
                        printable(word.dump(-1, ' ', false, json::error_handler_t::replace)));
    });
    const int64_t window = keys_.number_or({"attention_window_size"}, 2048, 1, kLongestWindow);
    for (LayerKind& kind : kinds_) kind.window = kind.attention ? window : 0;
    slides_by_list_ = true;
    return true;
  }

  LayerKind kind_of_letter(char letter) const {
    const LayerKind kind{.attention = letter == '*',
                         .mixer = letter == 'M',
                         .mlp = letter == '-' || letter == 'E',
                         .experts = letter == 'E'};
    if (kind.attention || kind.mixer || kind.mlp) return kind;
    throw keys_.error("hybrid_override_pattern", "layers of the kind '{}' are not understood",
                      printable(std::string(1, letter)));
  }

  LayerKind kind_of_word(const std::string& word) {
    LayerKind kind;
    if (word == "attention" || word == "full_attention" || word == "global") return kind;
    if (word == "sliding_attention") {
      kind.window = stated_window("sliding_window");
    } else if (word == "local") {
      kind.window = stated_window("window_size");
    } else if (word == "chunked_attention") {
      kind.window = stated_window("attention_chunk_size");
    } else if (word == "mamba" || word == "mamba2" || word == "linear_attention" ||
               word == "conv") {
      kind.attention = false;
      kind.mixer = true;
    } else if ((word == "mlp" || word == "moe") && family_.model_type == "nemotron_h") {
      kind.attention = false;
      kind.experts = word == "moe";
      routes_by_list_ = true;
      return kind;
    } else {
      throw keys_.error("layer_types", "layers of the kind '{}' are not understood",
                        printable(word));
    }
    if (family_.model_type == "nemotron_h") kind.mlp = false;
    return kind;
  }

  std::set<int64_t> indices(const char* name) const {
    std::set<int64_t> result;
    for (const json& item : *keys_.find({name})) {
      if (!item.is_number_integer() || item < 0 || item >= static_cast<int64_t>(kinds_.size())) {
        throw keys_.error(name, "not a list of layers from 0 to {}", kinds_.size() - 1);
      }
      result.insert(item.get<int64_t>());
    }
    return result;
  }

  template <typename Attends>
  void mix_unless(Attends attends) {
    for (size_t i = 0; i < kinds_.size(); ++i) {
      kinds_[i].attention = attends(static_cast<int64_t>(i));
      kinds_[i].mixer = !kinds_[i].attention;
    }
  }

  // --- periods ---

  void read_periods() {
    if (!family_.attends) {
      for (LayerKind& kind : kinds_) {
        kind = {.attention = false, .mixer = true, .mlp = false};
      }
      return;
    }
    if (family_.mixer == Mixer::none || family_.model_type == "falcon_h1") return;
    const auto most = static_cast<int64_t>(kMostLayers);
    if (const auto period = keys_.number({"attn_layer_period"}, 1, most)) {
      const int64_t offset = keys_.number_or({"attn_layer_offset"}, 0, 0, most);
      mix_unless([&](int64_t layer) { return layer % *period == offset % *period; });
    } else if (const auto interval = keys_.number({"full_attention_interval"}, 1, most)) {
      mix_unless([&](int64_t layer) { return (layer + 1) % *interval == 0; });
    } else {
      throw keys_.error(
          family_.model_type == "nemotron_h" ? "hybrid_override_pattern" : "layer_types",
          "missing: which layers have attention is not known");
    }
  }

  // --- windows ---

  int64_t stated_window(const char* name) const {
    const auto window = keys_.number({name}, 1, kLongestWindow);
    if (window) return *window;
    if (family_.window > 0) return family_.window;
    throw keys_.error(name, "missing, but layers slide");
  }

  void slide() {
    // Layers of Llama-4 read their chunk, but for every fourth one.
    if (family_.model_type == "llama4_text") return slide_llama4();
    auto window = keys_.number({"sliding_window"}, 1, kLongestWindow);
    if (!window && family_.window > 0) window = family_.window;
    if (!window || !keys_.flag_or({"use_sliding_window"}, true)) return;
    const int64_t nth = period();
    const bool upper = keys_.has("use_sliding_window") && keys_.has("max_window_layers");
    const int64_t first = upper ? keys_.number_or({"max_window_layers"}, 0, 0, kMostLayers) : 0;
    for (size_t i = 0; i < kinds_.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      const bool slides = upper                             ? layer >= first
                          : family_.slides_even && nth == 0 ? layer % 2 == 0
                                                            : nth == 0 || (layer + 1) % nth != 0;
      if (slides) kinds_[i].window = *window;
    }
  }

  // Every so many layers one reads the whole context; 0: none does.
  int64_t period() const {
    const json* pattern = keys_.find({"sliding_window_pattern"});
    if (pattern != nullptr && pattern->is_string()) {  // "LLLG"
      return static_cast<int64_t>(pattern->get_ref<const std::string&>().size());
    }
    return keys_.number_or({"sliding_window_pattern"}, family_.unslid_nth, 0, kMostLayers);
  }

  void slide_llama4() {
    const int64_t chunk = keys_.number_or({"attention_chunk_size"}, 8192, 1, kLongestWindow);
    // [] stands for its default, too.
    const json* list = keys_.find({"no_rope_layers"});
    const auto rotated = list != nullptr && list->is_array() && list->empty()
                             ? std::nullopt
                             : keys_.numbers("no_rope_layers", kinds_.size(), 0, 1);
    for (size_t i = 0; i < kinds_.size(); ++i) {
      const bool reads_all = rotated ? (*rotated)[i] == 0 : (i + 1) % 4 == 0;
      if (!reads_all) kinds_[i].window = chunk;
    }
  }

  // --- experts ---

  void route() {
    const std::set<int64_t> dense =
        keys_.has("mlp_only_layers") ? indices("mlp_only_layers") : std::set<int64_t>();
    const std::optional<std::set<int64_t>> listed = routed_layers();
    const int64_t first = keys_.number_or({"first_k_dense_replace", "moe_layer_start_index",
                                           "num_dense_layers", "moe_layer_num_skipped"},
                                          0, 0, kMostLayers);
    // Ernie writes -1 for the last layer.
    const int64_t stated_last = keys_.number_or({"moe_layer_end_index"}, -1, -1, kMostLayers);
    const int64_t last = stated_last < 0 ? kMostLayers : stated_last;
    const int64_t period = keys_.number_or({"decoder_sparse_step", "interleave_moe_layer_step",
                                            "moe_layer_interval", "expert_layer_period"},
                                           1, 1, kMostLayers);
    const int64_t offset = keys_.number_or({"expert_layer_offset"}, period - 1, 0, kMostLayers);
    const auto frequencies = frequency_list();
    for (size_t i = 0; i < kinds_.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      kinds_[i].experts = kinds_[i].mlp && layer >= first && layer <= last &&
                          !dense.contains(layer) && layer % period == offset % period &&
                          (!frequencies || (*frequencies)[i] == 1) &&
                          (!listed || listed->contains(layer));
    }
  }

  std::optional<std::vector<int64_t>> frequency_list() const {
    const json* frequency = keys_.find({"moe_layer_freq"});
    if (frequency == nullptr) return std::nullopt;
    if (frequency->is_array()) return keys_.numbers("moe_layer_freq", kinds_.size(), 0, 1);
    const int64_t period = keys_.number_or({"moe_layer_freq"}, 1, 1, kMostLayers);
    std::vector<int64_t> list(kinds_.size());
    for (size_t i = 0; i < list.size(); ++i)
      list[i] = static_cast<int64_t>(i) % period == 0 ? 1 : 0;
    return list;
  }

  std::optional<std::set<int64_t>> routed_layers() const {
    if (const json* list = keys_.find({"moe_layers"}); list != nullptr && list->is_array()) {
      if (list->empty()) return std::nullopt;  // Llama-4 writes [] for its period
      return indices("moe_layers");
    }
    return std::nullopt;
  }

  const ConfigReader& keys_;
  const Family& family_;
  std::vector<LayerKind> kinds_;
  bool slides_by_list_ = false, routes_by_list_ = false;
};

}  // namespace

std::vector<LayerKind> read_layer_kinds(const ConfigReader& keys, const Family& family,
                                        size_t count, bool routes) {
  return LayerKinds(keys, family, count).read(routes);
}

}  // namespace preserve
