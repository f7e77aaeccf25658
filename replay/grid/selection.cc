// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/selection.h"

#include <algorithm>
#include <array>
#include <set>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/split.h"
#include "common/text.h"

namespace preserve {
namespace {

// As preserve-tune has them.
constexpr int64_t kMostRanks = 1 << 10;
constexpr int64_t kMostBatch = 1 << 20;
constexpr int64_t kMostContext = 1 << 27;
constexpr size_t kMostCells = 20'000;

struct TypeRate {
  const char* name;
  double DeviceModel::*flops_per_s;
};
constexpr std::array kTypes{TypeRate{"fp16", &DeviceModel::flops_fp16_per_s},
                            TypeRate{"fp8", &DeviceModel::flops_fp8_per_s},
                            TypeRate{"int8", &DeviceModel::flops_int8_per_s}};

bool has_rate(const DeviceModel& device, const std::string& dtype) {
  return std::ranges::any_of(kTypes, [&](const TypeRate& type) {
    return dtype == type.name && device.*(type.flops_per_s) > 0;
  });
}

std::vector<int64_t> parse_counts(const std::string& key, const std::vector<std::string>& parts,
                                  int64_t most) {
  std::vector<int64_t> values;
  values.reserve(parts.size());
  for (const std::string& part : parts) {
    const std::optional<int64_t> value = parse_count(part);
    if (!value || *value > most) {
      throw usage_error("{}={}: each value is a whole number from 1 to {} (K means 1024)", key,
                        printable(part), most);
    }
    values.push_back(*value);
  }
  return values;
}

template <typename Value>
void refuse_repeated(const std::string& key, const std::vector<Value>& values) {
  std::set<Value> seen;
  for (const Value& value : values) {
    if (!seen.insert(value).second) {
      throw usage_error("{}={}: the value is given twice", key,
                        printable(fmt::format("{}", value)));
    }
  }
}

}  // namespace

GridSelection parse_selection(const std::vector<std::string>& words) {
  GridSelection selection;
  std::set<std::string> keys;
  for (const std::string& word : words) {
    const size_t equal = word.find('=');
    const std::string key = word.substr(0, equal);
    std::vector<std::string> parts;
    if (equal != std::string::npos) {
      for (const std::string_view part : split(std::string_view(word).substr(equal + 1), ',')) {
        parts.emplace_back(part);
      }
    }
    if (!keys.insert(key).second) throw usage_error("{}= is given twice", printable(key));
    if (std::ranges::find(parts, "") != parts.end()) {
      throw usage_error("{}: an empty value", printable(word));
    }
    if (parts.empty()) {
      throw usage_error("'{}' selects nothing: write KEY=VALUE,VALUE, as in tp=4,8",
                        printable(word));
    }
    if (key == "models") {
      selection.models = parts;
    } else if (key == "tp") {
      selection.ranks = parse_counts(key, parts, kMostRanks);
    } else if (key == "batch") {
      selection.batches = parse_counts(key, parts, kMostBatch);
    } else if (key == "context") {
      selection.contexts = parse_counts(key, parts, kMostContext);
    } else if (key == "dtype") {
      selection.dtypes = parts;
      std::ranges::replace(selection.dtypes, std::string("bf16"),
                           std::string("fp16"));  // of the same size and rate
    } else {
      throw usage_error("'{}': the keys are models, tp, batch, context and dtype", printable(word));
    }
  }
  refuse_repeated("models", selection.models);
  refuse_repeated("tp", selection.ranks);
  refuse_repeated("batch", selection.batches);
  refuse_repeated("context", selection.contexts);
  refuse_repeated("dtype", selection.dtypes);
  return selection;
}

std::vector<std::string> dtypes_for(const GridSelection& selection, const DeviceModel& device) {
  std::vector<std::string> dtypes = selection.dtypes;
  if (dtypes.empty()) dtypes = {"fp16", has_rate(device, "fp8") ? "fp8" : "int8"};
  for (const std::string& dtype : dtypes) {
    if (std::ranges::find(kTypes, dtype, &TypeRate::name) == kTypes.end()) {
      throw usage_error("dtype={}: the types are fp16, fp8 and int8", printable(dtype));
    }
    if (has_rate(device, dtype)) continue;
    throw usage_error(
        "device {} states no {} arithmetic rate: select other types with dtype=, calibrate with "
        "--published, or add flops_{}_per_s to its file",
        device.name, dtype, dtype);
  }
  return dtypes;
}

std::vector<GridCell> cells_of(const GridSelection& selection,
                               const std::vector<std::string>& models,
                               const std::vector<std::string>& dtypes) {
  std::vector<GridCell> cells;
  for (const std::string& model : models) {
    for (const std::string& dtype : dtypes) {
      for (const int64_t ranks : selection.ranks) {
        for (const int64_t batch : selection.batches) {
          for (const int64_t context : selection.contexts) {
            cells.push_back({.id = static_cast<int64_t>(cells.size()) + 1,
                             .key = {model, dtype, ranks, batch, context}});
            if (cells.size() > kMostCells) {
              throw usage_error("more than {} cells are selected: select fewer", kMostCells);
            }
          }
        }
      }
    }
  }
  return cells;
}

std::string text_of(const GridSelection& selection, const std::vector<std::string>& dtypes) {
  return fmt::format("tp={} batch={} context={} dtype={}", fmt::join(selection.ranks, ","),
                     fmt::join(selection.batches, ","), fmt::join(selection.contexts, ","),
                     fmt::join(dtypes, ","));
}

}  // namespace preserve
