// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <variant>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/collective_time.h"
#include "planner/workload/operator_times.h"
#include "planner/workload/workload.h"

namespace preserve {
namespace {

constexpr int64_t kMostRanksListed = 64;

WeightType type_of(const std::string& word) {
  for (const WeightType type : kWeightTypes) {
    if (word == to_string(type)) return type;
  }
  throw usage_error("invalid dtype={}: expected fp16, int8, fp8, int4 or fp4", printable(word));
}

std::vector<double> numbers_or(const SweepSheet& sheet, SweepKey key, double otherwise) {
  const SweepAxis* axis = sheet.find(key);
  return axis == nullptr ? std::vector{otherwise} : axis->numbers;
}

template <typename Input>
const Input& named(const std::vector<Input>& inputs, const std::string& name) {
  const auto found = std::ranges::find(inputs, name, &Input::name);
  if (found == inputs.end()) throw internal_error("no input {}", name);
  return *found;
}

// Loads each word of the sheets' axis once; `load` gives the name that the word then becomes.
template <typename Load>
void replace_words(std::vector<SweepSheet>& sheets, SweepKey key, Load&& load) {
  std::vector<std::pair<std::string, std::string>> known;  // word, name
  for (SweepSheet& sheet : sheets) {
    for (SweepAxis& axis : sheet.axes) {
      if (axis.key != key) continue;
      for (std::string& word : axis.words) {
        auto found =
            std::ranges::find_if(known, [&](const auto& item) { return item.first == word; });
        if (found == known.end()) {
          const std::string name = load(word);
          for (const auto& [other, taken] : known) {
            if (taken != name) continue;
            throw usage_error("{}={} and {} are both called {}: rename one", info_of(key).name,
                              printable(other), printable(word), printable(name));
          }
          found = known.insert(known.end(), {word, name});
        }
        word = found->second;
      }
    }
  }
}

using Member = std::variant<int64_t ExplorePoint::*, std::optional<int64_t> ExplorePoint::*,
                            std::optional<double> ExplorePoint::*>;
constexpr std::pair<SweepKey, Member> kMembers[] = {
    {SweepKey::tp, &ExplorePoint::ranks},
    {SweepKey::batch, &ExplorePoint::batch},
    {SweepKey::context, &ExplorePoint::context},
    {SweepKey::kv_heads, &ExplorePoint::kv_heads},
    {SweepKey::l2, &ExplorePoint::cache_bytes},
    {SweepKey::memory, &ExplorePoint::memory_bytes},
    {SweepKey::bandwidth, &ExplorePoint::memory_bandwidth_bytes_per_s},
    {SweepKey::compute, &ExplorePoint::arithmetic_factor},
    {SweepKey::allreduce, &ExplorePoint::allreduce_ns},
    {SweepKey::network_latency, &ExplorePoint::network_latency_ns},
    {SweepKey::network_bandwidth, &ExplorePoint::network_bandwidth_bytes_per_s},
};

void set_number(SweepKey key, double number, ExplorePoint& point) {
  for (const auto& [known, member] : kMembers) {
    if (known != key) continue;
    std::visit(
        [&](auto place) {
          using Value = std::decay_t<decltype(point.*place)>;
          if constexpr (std::is_same_v<Value, std::optional<double>>) {
            point.*place = number;
          } else {
            point.*place = static_cast<int64_t>(number);
          }
        },
        member);
    return;
  }
  throw internal_error("{}= has no place in a cell", info_of(key).name);
}

// --- checks --------------------------------------------------------------------------------------

void check_divides(const ModelConfig& model, int64_t ranks) {
  if (undivided(model, ranks).empty()) return;
  std::vector<int64_t> fit;
  for (int64_t count = 1; count <= kMostRanksListed; ++count) {
    if (undivided(model, count).empty()) fit.push_back(count);
  }
  throw usage_error(
      "tp={}: {} ranks do not divide the heads and columns of {}; of 1 to {} these do: {}", ranks,
      ranks, model.name, kMostRanksListed, fmt::join(fit, ", "));
}

void check_kv_heads(const SweepSheet& sheet, const ModelConfig& model) {
  const SweepAxis* axis = sheet.find(SweepKey::kv_heads);
  if (axis == nullptr) return;
  bool any = false;
  for (const LayerShape& layer : model.layers) {
    if (!layer.attention || layer.attention->latent > 0) continue;
    any = true;
    for (const double value : axis->numbers) {
      const auto count = static_cast<int64_t>(value);
      if (layer.attention->heads % count == 0) continue;
      throw usage_error("kv_heads={}: the {} attention heads of {} cannot share so many", count,
                        layer.attention->heads, model.name);
    }
  }
  if (!any) throw usage_error("kv_heads= changes nothing: {} has no key-value heads", model.name);
}

void check_context(const SweepSheet& sheet, const ModelConfig& model, bool whole_context) {
  const SweepAxis* axis = sheet.find(SweepKey::context);
  if (axis == nullptr || axis->numbers.size() < 2) return;
  const double least = *std::ranges::min_element(axis->numbers);
  int64_t widest = 0;
  const bool attends = std::ranges::any_of(
      model.layers, [](const LayerShape& layer) { return layer.attention.has_value(); });
  if (!attends) throw usage_error("context= changes nothing: {} has no attention", model.name);
  for (const LayerShape& layer : model.layers) {
    if (!layer.attention) continue;
    const int64_t window = whole_context ? 0 : layer.attention->window;
    if (window == 0 || static_cast<double>(window) > least) return;
    widest = std::max(widest, window);
  }
  throw usage_error(
      "context= changes nothing: the attention of {} reads at most {} tokens; --whole-context "
      "lets it read all",
      model.name, widest);
}

void check_network(const SweepSheet& sheet) {
  const bool stated = sheet.find(SweepKey::allreduce) != nullptr;
  const bool latency = sheet.find(SweepKey::network_latency) != nullptr;
  const bool bandwidth = sheet.find(SweepKey::network_bandwidth) != nullptr;
  if (latency != bandwidth) {
    throw usage_error("network_latency= and network_bandwidth= go together: give both");
  }
  if (stated && latency) {
    throw usage_error("network_latency= changes nothing: allreduce= states how long it lasts");
  }
  const std::vector<double> ranks = numbers_or(sheet, SweepKey::tp, 2);
  const bool alone = std::ranges::all_of(ranks, [](double n) { return n == 1; });
  if (alone && (stated || latency)) {
    throw usage_error("{}= changes nothing: with tp=1 nothing is communicated",
                      stated ? "allreduce" : "network_latency");
  }
}

void check_collective(const SweepSheet& sheet, const DeviceModel& device, int64_t ranks) {
  if (ranks == 1 || sheet.find(SweepKey::allreduce) != nullptr ||
      sheet.find(SweepKey::network_bandwidth) != nullptr) {
    return;
  }
  try {
    collective_time(device, "allreduce", ranks, 1);
  } catch (const Error&) {
    throw input_error(
        "device {} has no allreduce time for {}: state it as allreduce=20us, or give "
        "network_latency= and network_bandwidth=",
        printable(device.name), count_of(ranks, "rank"));
  }
}

void check_type(const SweepSheet& sheet, const DeviceModel& device, const ModelConfig& model) {
  std::vector<WeightType> types;
  if (const SweepAxis* axis = sheet.find(SweepKey::dtype)) {
    for (const std::string& word : axis->words) types.push_back(type_of(word));
  } else {
    types = {model.attention_weights.type, model.mlp_weights.type};
  }
  types.push_back(WeightType::fp16);  // attention and head
  for (const WeightType type : types) {
    if (arithmetic_rate(device, type) > 0) continue;
    throw input_error("device {} states no {} arithmetic rate: choose another dtype=",
                      printable(device.name), to_string(type));
  }
}

}  // namespace

const SweepAxis* SweepSheet::find(SweepKey key) const {
  const auto found = std::ranges::find(axes, key, &SweepAxis::key);
  return found == axes.end() ? nullptr : &*found;
}

void SweepSheet::set(SweepAxis axis) {
  std::erase_if(axes, [&](const SweepAxis& other) { return other.key == axis.key; });
  const auto place =
      std::ranges::find_if(axes, [&](const SweepAxis& other) { return other.key > axis.key; });
  axes.insert(place, std::move(axis));
}

int64_t SweepSheet::cells() const {
  int64_t count = 1;
  for (const SweepAxis& axis : axes) {
    count = checked_mul(count, static_cast<int64_t>(axis.words.size()), "the cells of the sweep");
    if (count > kMostExploreCells) {
      throw usage_error("the sweep has more than {} cells", kMostExploreCells);
    }
  }
  return count;
}

std::string input_file(const std::string& word, const char* folder) {
  std::string file = word;
  if (std::string wrong = as_shipped_file(folder)(file); !wrong.empty())
    throw usage_error("{}", wrong);
  return file;
}

SweepInputs load_inputs(std::vector<SweepSheet>& sheets, const std::string& area_file,
                        std::vector<std::string>& warnings, const std::string& collectives) {
  for (const SweepSheet& sheet : sheets) {
    const bool stated = sheet.find(SweepKey::allreduce) != nullptr;
    if (collectives.empty() || (!stated && sheet.find(SweepKey::network_latency) == nullptr)) {
      continue;
    }
    throw usage_error("--collectives changes nothing: {}= states how long they last",
                      stated ? "allreduce" : "network_latency");
  }
  SweepInputs inputs;
  replace_words(sheets, SweepKey::model, [&](const std::string& word) {
    inputs.models.push_back(load_model_config(input_file(word, "models")));
    const std::vector<std::string>& doubts = inputs.models.back().warnings;
    warnings.insert(warnings.end(), doubts.begin(), doubts.end());
    return inputs.models.back().name;
  });
  replace_words(sheets, SweepKey::device, [&](const std::string& word) {
    const DeviceModel device = load_device(input_file(word, "devices"));
    inputs.devices.push_back(careful_device(with_collectives(device, collectives), warnings));
    return inputs.devices.back().name;
  });
  if (!area_file.empty()) inputs.area = load_area_model(input_file(area_file, "area"));
  return inputs;
}

Sweep::Sweep(std::vector<SweepSheet> sheets, SweepInputs inputs, const SweepSettings& settings)
    : sheets_(std::move(sheets)), inputs_(std::move(inputs)), settings_(settings) {
  for (SweepSheet& sheet : sheets_) {
    for (const auto& [key, value] : {std::pair(SweepKey::tp, "4"), std::pair(SweepKey::batch, "4"),
                                     std::pair(SweepKey::context, "16K")}) {
      if (sheet.find(key) == nullptr) sheet.set(parse_axis(key, value));
    }
    first_.push_back(cells_ + 1);
    cells_ += sheet.cells();
    if (cells_ > kMostExploreCells) {
      throw usage_error("the sweep has more than {} cells", kMostExploreCells);
    }
  }
}

const ModelConfig& Sweep::model(const std::string& name) const {
  return named(inputs_.models, name);
}

const DeviceModel& Sweep::device(const std::string& name) const {
  return named(inputs_.devices, name);
}

void Sweep::check_sheet(const SweepSheet& sheet, bool allow_uneven) const {
  const SweepAxis *models = sheet.find(SweepKey::model), *devices = sheet.find(SweepKey::device);
  if (models == nullptr) throw usage_error("which model? --model llama3-8b, or a config.json");
  if (devices == nullptr) throw usage_error("which device? --device h100-sxm, or a device file");
  check_network(sheet);
  const std::vector<double> ranks = numbers_or(sheet, SweepKey::tp, 4);
  for (const std::string& name : models->words) {
    const ModelConfig& here = model(name);
    check_kv_heads(sheet, here);
    check_context(sheet, here, settings_.whole_context);
    for (const double count : ranks) {
      if (!allow_uneven) check_divides(here, static_cast<int64_t>(count));
    }
    for (const std::string& device_name : devices->words) {
      check_type(sheet, device(device_name), here);
    }
  }
  for (const std::string& name : devices->words) {
    for (const double count : ranks)
      check_collective(sheet, device(name), static_cast<int64_t>(count));
  }
}

void Sweep::check_memory(size_t sheet) const {
  // Cells that need least: of what decides which bytes must fit into how many, all values or the
  // best one, of other keys the first.
  std::vector<int64_t> ids{first_.at(sheet)};
  int64_t stride = 1;
  const std::vector<SweepAxis>& axes = sheets_[sheet].axes;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    std::vector<int64_t> places(1, 0);
    const std::vector<double>& numbers = axis->numbers;
    if (axis->key == SweepKey::batch || axis->key == SweepKey::context) {
      places[0] = std::ranges::min_element(numbers) - numbers.begin();
    } else if (axis->key == SweepKey::memory) {
      places[0] = std::ranges::max_element(numbers) - numbers.begin();
    } else if (axis->key <= SweepKey::tp || axis->key == SweepKey::kv_heads) {
      places.resize(axis->words.size());
      std::iota(places.begin(), places.end(), 0);
    }
    std::vector<int64_t> product;
    for (const int64_t id : ids) {
      for (const int64_t place : places) product.push_back(id + place * stride);
    }
    ids = std::move(product);
    stride *= static_cast<int64_t>(axis->words.size());
  }
  std::optional<ExploreCell> nearest;
  const auto lacking = [](const ExploreCell& cell) {
    return cell.rank_bytes + cell.workspace_bytes - cell.memory_bytes;
  };
  for (const int64_t id : ids) {
    ExploreCell cell = this->cell(id);
    if (cell.status != kExploreNotAvailable) return;
    if (!nearest || lacking(cell) < lacking(*nearest)) nearest = std::move(cell);
  }
  if (nearest) throw usage_error("no cell can be run; what comes nearest: {}", nearest->reason);
}

void Sweep::check(bool allow_uneven) const {
  for (const SweepSheet& sheet : sheets_) check_sheet(sheet, allow_uneven);
  for (size_t i = 0; i < sheets_.size() && !allow_uneven; ++i) check_memory(i);
}

ExplorePoint Sweep::point(int64_t id) const {
  const auto after = std::ranges::upper_bound(first_, id);
  const auto index = static_cast<size_t>(after - first_.begin()) - 1;
  const SweepSheet& sheet = sheets_.at(index);
  int64_t rest = id - first_[index];
  ExplorePoint point;
  point.whole_context = settings_.whole_context;
  point.search = settings_.search;
  point.area = inputs_.area ? &*inputs_.area : nullptr;
  for (auto axis = sheet.axes.rbegin(); axis != sheet.axes.rend(); ++axis) {
    const auto size = static_cast<int64_t>(axis->words.size());
    const auto place = static_cast<size_t>(rest % size);
    rest /= size;
    const std::string& word = axis->words[place];
    if (axis->key == SweepKey::model) {
      point.model = &model(word);
    } else if (axis->key == SweepKey::device) {
      point.device = &device(word);
    } else if (axis->key == SweepKey::dtype) {
      point.type = type_of(word);
    } else {
      set_number(axis->key, axis->numbers[place], point);
    }
  }
  return point;
}

ExploreCell Sweep::cell(int64_t id) const {
  ExploreCell cell = evaluate(point(id));
  cell.id = id;
  return cell;
}

std::vector<ExploreSheet> sheets_of(const Sweep& sweep) {
  const auto plain = [](std::string text) {
    for (char& c : text) {
      const bool separates = std::string_view("|:;,=").find(c) != std::string_view::npos;
      if (separates || static_cast<unsigned char>(c) < ' ') c = '_';
    }
    return text;
  };
  std::vector<ExploreSheet> sheets;
  for (size_t i = 0; i < sweep.sheets().size(); ++i) {
    const SweepSheet& from = sweep.sheets()[i];
    ExploreSheet& to = sheets.emplace_back();
    to.title = plain(from.title);
    to.first_id = sweep.first_cell(i);
    to.cells = from.cells();
    for (const SweepAxis& axis : from.axes) {
      ExploreAxis& copy = to.axes.emplace_back(ExploreAxis{info_of(axis.key).name, {}});
      for (const std::string& word : axis.words) copy.values.push_back(plain(word));
    }
  }
  return sheets;
}

}  // namespace preserve
