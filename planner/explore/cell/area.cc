// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/area.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"

namespace preserve {
namespace {

using Json = nlohmann::json;

struct Constant {
  const char* key;
  double AreaModel::*member;
  bool may_be_zero;
};
constexpr Constant kConstants[] = {
    {"sram_mm2_per_mib", &AreaModel::sram_mm2_per_mib, false},
    {"arithmetic_mm2_per_tflops", &AreaModel::arithmetic_mm2_per_tflops, false},
    {"memory_link_bytes_per_s", &AreaModel::memory_link_bytes_per_s, false},
    {"memory_link_mm2", &AreaModel::memory_link_mm2, true},
    {"network_link_bytes_per_s", &AreaModel::network_link_bytes_per_s, false},
    {"network_link_mm2", &AreaModel::network_link_mm2, true},
    {"other_mm2", &AreaModel::other_mm2, true},
    {"wafer_cost", &AreaModel::wafer_cost, false},
    {"wafer_mm2", &AreaModel::wafer_mm2, false},
    {"defects_per_mm2", &AreaModel::defects_per_mm2, true},
    {"memory_cost_per_gb", &AreaModel::memory_cost_per_gb, true},
};

// Far above any hardware; keeps areas and costs finite.
constexpr double kMost = 1e18;

double value_of(const Json& document, const Constant& constant, const std::string& file) {
  const auto found = document.find(constant.key);
  if (found == document.end()) throw input_error("{}: /{} is missing", file, constant.key);
  const Json& entry = *found;
  if (!entry.is_object() || !entry.contains("value") || !entry["value"].is_number() ||
      !entry.contains("source") || !entry["source"].is_string()) {
    throw input_error("{}: at /{}: expected {{\"value\": number, \"source\": text}}", file,
                      constant.key);
  }
  const double value = entry["value"].get<double>();
  const bool fits =
      std::isfinite(value) && value <= kMost && (constant.may_be_zero ? value >= 0 : value > 0);
  if (!fits) throw input_error("{}: at /{}/value: {} is out of range", file, constant.key, value);
  return value;
}

}  // namespace

AreaModel load_area_model(const std::filesystem::path& path) {
  const std::string file = path.string();
  const Json document = Json::parse(read_text_file(path), nullptr, false);
  if (document.is_discarded() || !document.is_object()) {
    throw input_error("{}: is not a JSON object", file);
  }
  std::set<std::string> known{"name", "notes"};
  AreaModel model;
  for (const Constant& constant : kConstants) {
    known.insert(constant.key);
    model.*constant.member = value_of(document, constant, file);
  }
  for (const auto& [key, value] : document.items()) {
    if (!known.contains(key)) throw input_error("{}: unknown key /{}", file, printable(key));
  }
  const auto name = document.find("name");
  if (name == document.end() || !name->is_string()) throw input_error("{}: /name is missing", file);
  model.name = name->get<std::string>();
  return model;
}

double area_mm2(const AreaModel& model, const DeviceSize& size) {
  constexpr double kMiB = 1024.0 * 1024.0, kTera = 1e12;
  return model.other_mm2 + model.sram_mm2_per_mib * static_cast<double>(size.cache_bytes) / kMiB +
         model.arithmetic_mm2_per_tflops * size.fp16_per_s / kTera +
         model.memory_link_mm2 * size.memory_bandwidth_bytes_per_s / model.memory_link_bytes_per_s +
         model.network_link_mm2 * size.network_bandwidth_bytes_per_s /
             model.network_link_bytes_per_s;
}

double cost(const AreaModel& model, const DeviceSize& size) {
  constexpr double kGiga = 1e9;
  const double mm2 = area_mm2(model, size);
  const double die =
      mm2 / model.wafer_mm2 * model.wafer_cost * std::exp(mm2 * model.defects_per_mm2);
  return die + model.memory_cost_per_gb * static_cast<double>(size.memory_bytes) / kGiga;
}

}  // namespace preserve
