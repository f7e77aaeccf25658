// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/json_document.h"

namespace preserve {

extern const std::string_view kDeviceSchema;

namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kSlowdowns = "operator_slowdown_per_byte_ns";

PrefetchMethod read_method(const json& value) {
  PrefetchMethod method;
  method.name = value.at("name");
  method.placement = value.at("placement");
  method.bandwidth_bytes_per_s = value.at("bandwidth_bytes_per_s");
  method.start_latency_ns = value.at("start_latency_ns");
  method.hit_read_bandwidth_bytes_per_s = value.value("hit_read_bandwidth_bytes_per_s", 0.0);
  method.chunk_bytes = value.value("chunk_bytes", int64_t{0});
  method.ctas = value.value("ctas", int64_t{0});
  method.eviction = value.value("eviction", std::string());
  method.issue = value.value("issue", std::string());
  const json slowdowns = value.value(kSlowdowns, json::object());
  for (const OperatorClass of : kOperatorClasses) {
    if (slowdowns.contains(to_string(of))) {
      method.operator_slowdown_per_byte_ns[of] = slowdowns[to_string(of)].get<double>();
    }
  }
  return method;
}

CollectiveFit read_collective(const json& value) {
  CollectiveFit fit;
  fit.function = value.at("function");
  fit.library = value.at("library");
  fit.ranks = value.at("ranks");
  fit.latency_ns = value.at("latency_ns");
  fit.bandwidth_bytes_per_s = value.at("bandwidth_bytes_per_s");
  fit.max_relative_error = value.value("max_relative_error", 0.0);
  fit.min_bytes = value.value("min_bytes", int64_t{0});
  fit.max_bytes = value.value("max_bytes", int64_t{0});
  return fit;
}

OperatorTable read_operator(const json& value) {
  OperatorTable table;
  table.operation = value.at("operation");
  table.dtype = value.at("dtype");
  table.engine = value.at("engine");
  table.version = value.at("version");
  table.kernel = value.at("kernel");
  table.source = value.at("source");
  table.rows = value.at("rows");
  table.median_relative_error = value.at("median_relative_error");
  table.p90_relative_error = value.at("p90_relative_error");
  table.latency_ns = value.at("latency_ns");
  table.bandwidth_bytes_per_s = value.at("bandwidth_bytes_per_s");
  for (const json& axis : value.at("axes")) {
    table.axes.push_back({axis.at("name"), axis.at("knots").get<std::vector<int64_t>>()});
  }
  table.factors = value.at("factors").get<std::vector<double>>();
  return table;
}

DeviceMeasurement read_measurement(const json& value) {
  DeviceMeasurement measurement;
  measurement.name = value.at("name");
  measurement.unit = value.at("unit");
  measurement.median = value.at("median");
  measurement.mad = value.at("mad");
  measurement.n = value.at("n");
  measurement.note = value.value("note", std::string());
  return measurement;
}

DeviceModel read_device(const json& document) {
  DeviceModel device;
  device.name = document.at("name");
  device.kind = document.at("kind");
  device.source = document.at("source");
  device.ranks = document.value("ranks", int64_t{1});
  device.multiprocessors = document.value("multiprocessors", int64_t{0});
  device.cache_bytes = document.at("cache_bytes");
  device.cache_budget_bytes = document.at("cache_budget_bytes");
  device.memory_bytes = document.value("memory_bytes", int64_t{0});
  device.memory_bandwidth_bytes_per_s = document.at("memory_bandwidth_bytes_per_s");
  device.cache_read_bandwidth_bytes_per_s = document.at("cache_read_bandwidth_bytes_per_s");
  device.slowdown_per_byte_ns = document.value("slowdown_per_byte_ns", 0.0);
  device.window_cost_ns = document.value("window_cost_ns", int64_t{0});
  device.op_floor_ns = document.value("op_floor_ns", int64_t{0});
  device.flops_fp16_per_s = document.value("flops_fp16_per_s", 0.0);
  device.flops_fp8_per_s = document.value("flops_fp8_per_s", 0.0);
  device.flops_fp4_per_s = document.value("flops_fp4_per_s", 0.0);
  device.flops_int8_per_s = document.value("flops_int8_per_s", 0.0);
  for (const json& point : document.value("survival", json::array())) {
    device.survival.push_back({point.at("footprint_bytes"), point.at("hit_fraction")});
  }
  for (const json& method : document.at("methods")) device.methods.push_back(read_method(method));
  for (const json& fit : document.value("collectives", json::array())) {
    device.collectives.push_back(read_collective(fit));
  }
  for (const json& table : document.value("operators", json::array())) {
    device.operators.push_back(read_operator(table));
  }
  for (const json& measurement : document.value("measurements", json::array())) {
    device.measurements.push_back(read_measurement(measurement));
  }
  for (const json& interval : document.value("intervals", json::array())) {
    device.intervals.push_back(
        {interval.at("figure"), interval.at("low"), interval.at("high"), interval.at("n")});
  }
  if (document.contains("verdict")) {
    device.verdict = document["verdict"].at("result");
    device.verdict_reason = document["verdict"].value("reason", std::string());
  }
  device.notes = document.value("notes", std::vector<std::string>{});
  return device;
}

void check_operator(const OperatorTable& table, size_t index, const fs::path& path) {
  const std::vector<const char*> names = table.operation == "gemm"
                                             ? std::vector{"m", "n", "k"}
                                             : std::vector{"streams", "context", "group"};
  size_t size = 1;
  for (size_t i = 0; i < table.axes.size(); ++i) {
    const OperatorTable::Axis& axis = table.axes[i];
    if (axis.name != names[i]) {
      throw input_error("{}: at /operators/{}/axes/{}/name: '{}', but axis {} of {} is {}",
                        path.string(), index, i, printable(axis.name), i, table.operation,
                        names[i]);
    }
    if (!std::is_sorted(axis.knots.begin(), axis.knots.end(), std::less_equal<>())) {
      throw input_error("{}: at /operators/{}/axes/{}/knots: knots must ascend", path.string(),
                        index, i);
    }
    size *= axis.knots.size();
  }
  if (table.factors.size() != size) {
    throw input_error("{}: at /operators/{}/factors: {} factors for a grid of {}", path.string(),
                      index, table.factors.size(), size);
  }
}

// What a schema cannot say.
void check_device(const DeviceModel& device, const fs::path& path) {
  if (device.cache_bytes == 0) {
    throw input_error("{}: at /cache_bytes: a device without a cache cannot hold prefetched bytes",
                      path.string());
  }
  if (device.cache_budget_bytes > device.cache_bytes) {
    throw input_error(
        "{}: at /cache_budget_bytes: {} is more than the whole cache (cache_bytes {})",
        path.string(), device.cache_budget_bytes, device.cache_bytes);
  }
  for (const DeviceInterval& interval : device.intervals) {
    if (interval.low > interval.high) {
      throw input_error("{}: at /intervals: that of {} ends before it begins", path.string(),
                        printable(interval.figure));
    }
  }
  for (size_t i = 1; i < device.survival.size(); ++i) {
    if (device.survival[i].footprint_bytes <= device.survival[i - 1].footprint_bytes) {
      throw input_error(
          "{}: at /survival/{}/footprint_bytes: points must ascend, but {} follows {}",
          path.string(), i, device.survival[i].footprint_bytes,
          device.survival[i - 1].footprint_bytes);
    }
  }
  for (size_t i = 0; i < device.operators.size(); ++i) check_operator(device.operators[i], i, path);
}

}  // namespace

DeviceModel load_device(const fs::path& path) {
  const json document = parse_json_file(path);
  if (!document.is_object() || document.value("schema", json()) != "preserve/device") {
    throw input_error(
        "{} is not a device file: it lacks \"schema\": \"preserve/device\"; preserve-calibrate "
        "makes one for this machine, examples/devices has published ones",
        path.string());
  }
  check_version(document, "device", kDeviceVersion, path);
  validate_json(document, kDeviceSchema, path);
  DeviceModel device = read_device(document);
  check_device(device, path);
  return device;
}

std::string to_json(const DeviceModel& device) {
  ordered_json measurements = ordered_json::array();
  for (const DeviceMeasurement& measurement : device.measurements) {
    measurements.push_back({{"name", measurement.name},
                            {"unit", measurement.unit},
                            {"median", measurement.median},
                            {"mad", measurement.mad},
                            {"n", measurement.n}});
    if (!measurement.note.empty()) measurements.back()["note"] = measurement.note;
  }
  ordered_json survival = ordered_json::array();
  for (const SurvivalPoint& point : device.survival) {
    survival.push_back(
        {{"footprint_bytes", point.footprint_bytes}, {"hit_fraction", point.hit_fraction}});
  }
  ordered_json methods = ordered_json::array();
  for (const PrefetchMethod& method : device.methods) {
    methods.push_back({{"name", method.name},
                       {"placement", method.placement},
                       {"bandwidth_bytes_per_s", method.bandwidth_bytes_per_s},
                       {"start_latency_ns", method.start_latency_ns},
                       {"hit_read_bandwidth_bytes_per_s", method.hit_read_bandwidth_bytes_per_s},
                       {"chunk_bytes", method.chunk_bytes},
                       {"ctas", method.ctas}});
    if (!method.eviction.empty()) methods.back()["eviction"] = method.eviction;
    if (!method.issue.empty()) methods.back()["issue"] = method.issue;
    for (const OperatorClass of : kOperatorClasses) {
      const std::optional<double>& ns = method.operator_slowdown_per_byte_ns[of];
      if (ns) methods.back()[kSlowdowns][to_string(of)] = *ns;
    }
  }
  ordered_json collectives = ordered_json::array();
  for (const CollectiveFit& fit : device.collectives) {
    collectives.push_back({{"function", fit.function},
                           {"library", fit.library},
                           {"ranks", fit.ranks},
                           {"latency_ns", fit.latency_ns},
                           {"bandwidth_bytes_per_s", fit.bandwidth_bytes_per_s},
                           {"max_relative_error", fit.max_relative_error},
                           {"min_bytes", fit.min_bytes},
                           {"max_bytes", fit.max_bytes}});
  }
  ordered_json intervals = ordered_json::array();
  for (const DeviceInterval& interval : device.intervals) {
    intervals.push_back({{"figure", interval.figure},
                         {"low", interval.low},
                         {"high", interval.high},
                         {"n", interval.n}});
  }
  ordered_json operators = ordered_json::array();
  for (const OperatorTable& table : device.operators) {
    ordered_json axes = ordered_json::array();
    for (const OperatorTable::Axis& axis : table.axes) {
      axes.push_back({{"name", axis.name}, {"knots", axis.knots}});
    }
    operators.push_back({{"operation", table.operation},
                         {"dtype", table.dtype},
                         {"engine", table.engine},
                         {"version", table.version},
                         {"kernel", table.kernel},
                         {"source", table.source},
                         {"rows", table.rows},
                         {"median_relative_error", table.median_relative_error},
                         {"p90_relative_error", table.p90_relative_error},
                         {"latency_ns", table.latency_ns},
                         {"bandwidth_bytes_per_s", table.bandwidth_bytes_per_s},
                         {"axes", axes},
                         {"factors", table.factors}});
  }
  ordered_json document{
      {"schema", "preserve/device"},
      {"version", kDeviceVersion},
      {"name", device.name},
      {"kind", device.kind},
      {"source", device.source},
      {"ranks", device.ranks},
      {"multiprocessors", device.multiprocessors},
      {"cache_bytes", device.cache_bytes},
      {"cache_budget_bytes", device.cache_budget_bytes},
      {"memory_bytes", device.memory_bytes},
      {"memory_bandwidth_bytes_per_s", device.memory_bandwidth_bytes_per_s},
      {"cache_read_bandwidth_bytes_per_s", device.cache_read_bandwidth_bytes_per_s},
      {"slowdown_per_byte_ns", device.slowdown_per_byte_ns},
      {"window_cost_ns", device.window_cost_ns},
      {"op_floor_ns", device.op_floor_ns},
      {"flops_fp16_per_s", device.flops_fp16_per_s},
      {"flops_fp8_per_s", device.flops_fp8_per_s},
      {"flops_fp4_per_s", device.flops_fp4_per_s},
      {"flops_int8_per_s", device.flops_int8_per_s},
      {"survival", survival},
      {"methods", methods},
      {"collectives", collectives},
      {"operators", operators},
      {"measurements", measurements},
      {"notes", device.notes}};
  if (!intervals.empty()) document["intervals"] = intervals;
  if (!device.verdict.empty()) {
    document["verdict"] = {{"result", device.verdict}, {"reason", device.verdict_reason}};
  }
  return dump_json(document);
}

const DeviceInterval* find_interval(const DeviceModel& device, std::string_view figure) {
  for (const DeviceInterval& interval : device.intervals) {
    if (interval.figure == figure) return &interval;
  }
  return nullptr;
}

DeviceModel careful_device(const DeviceModel& device, std::vector<std::string>& said) {
  DeviceModel careful = device;
  // Calls `use` with the careful end, which lies below or above what was measured.
  const auto replace = [&](const std::string& figure, double measured, bool low, auto use,
                           auto text) {
    const DeviceInterval* interval = find_interval(device, figure);
    if (interval == nullptr) return;
    const double end = low ? std::min(interval->low, measured) : std::max(interval->high, measured);
    if (end <= 0 && measured > 0 && figure != kBudgetFigure)
      return;  // no rate at all: not a device
    use(end);
    constexpr double kWorthSaying = 0.1;
    if (std::fabs(end - measured) <= kWorthSaying * std::fabs(measured)) return;
    said.push_back(fmt::format("planned with {} {}, the careful end of {} to {}", figure, text(end),
                               text(interval->low), text(interval->high)));
  };
  const auto size = [](double bytes) { return format_size(static_cast<int64_t>(bytes)); };
  const auto number = [](double value) { return fmt::format("{:.4g}", value); };
  const auto duration = [](double dur_ns) { return format_duration(dur_ns); };
  replace(
      kBudgetFigure, static_cast<double>(device.cache_budget_bytes), true,
      [&](double end) { careful.cache_budget_bytes = static_cast<int64_t>(end); }, size);
  replace(
      "slowdown_per_byte_ns", device.slowdown_per_byte_ns, false,
      [&](double end) { careful.slowdown_per_byte_ns = std::min(end, kMostSlowdownNs); }, number);
  replace(
      "window_cost_ns", static_cast<double>(device.window_cost_ns), false,
      [&](double end) {
        careful.window_cost_ns =
            std::min(std::llround(end), static_cast<long long>(kMostWindowCostNs));
      },
      duration);
  for (PrefetchMethod& method : careful.methods) {
    replace(
        method_figure(method, "bandwidth_bytes_per_s"), method.bandwidth_bytes_per_s, true,
        [&](double end) { method.bandwidth_bytes_per_s = end; }, format_rate);
    replace(
        method_figure(method, "hit_read_bandwidth_bytes_per_s"),
        method.hit_read_bandwidth_bytes_per_s, true,
        [&](double end) { method.hit_read_bandwidth_bytes_per_s = end; }, format_rate);
    for (const OperatorClass of : kOperatorClasses) {
      std::optional<double>& ns = method.operator_slowdown_per_byte_ns[of];
      if (!ns) continue;
      replace(
          slowdown_figure(method, of), *ns, false,
          [&](double end) { ns = std::min(end, kMostSlowdownNs); }, number);
    }
  }
  return careful;
}

std::string method_figure(const PrefetchMethod& method, std::string_view figure) {
  return fmt::format("methods/{}/{}/{}", method.name, method.placement, figure);
}

std::string slowdown_figure(const PrefetchMethod& method, OperatorClass of) {
  return method_figure(method, fmt::format("{}/{}", kSlowdowns, to_string(of)));
}

const PrefetchMethod* find_method(const DeviceModel& device, std::string_view name,
                                  std::string_view placement) {
  for (const PrefetchMethod& method : device.methods) {
    if ((name.empty() || method.name == name) &&
        (placement.empty() || method.placement == placement)) {
      return &method;
    }
  }
  return nullptr;
}

double survival_at(const DeviceModel& device, double footprint_bytes) {
  const std::vector<SurvivalPoint>& curve = device.survival;
  if (curve.empty()) {
    return footprint_bytes <= static_cast<double>(device.cache_budget_bytes) ? 1.0 : 0.0;
  }
  const auto above =
      std::upper_bound(curve.begin(), curve.end(), footprint_bytes,
                       [](double footprint, const SurvivalPoint& point) {
                         return footprint < static_cast<double>(point.footprint_bytes);
                       });
  if (above == curve.begin()) return curve.front().hit_fraction;
  if (above == curve.end()) return curve.back().hit_fraction;
  const SurvivalPoint& low = *(above - 1);
  const double span = static_cast<double>(above->footprint_bytes - low.footprint_bytes);
  const double share = (footprint_bytes - static_cast<double>(low.footprint_bytes)) / span;
  return low.hit_fraction + share * (above->hit_fraction - low.hit_fraction);
}

}  // namespace preserve
