// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/json_document.h"
#include "planner/schedule/json_fields.h"

namespace preserve {

extern const std::string_view kDeviceSchema;

namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kSlowdowns = "operator_slowdown_per_byte_ns";
const JsonFormat kFormat{"preserve/device", "device", kDeviceVersion, kDeviceSchema};

}  // namespace

// --- fields, in the order in which files have them -----------------------------------------------

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, SurvivalPoint>& point) {
  fields("footprint_bytes", point.footprint_bytes);
  fields("hit_fraction", point.hit_fraction);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, PrefetchMethod>& method) {
  fields("name", method.name);
  fields("placement", method.placement);
  fields("bandwidth_bytes_per_s", method.bandwidth_bytes_per_s);
  fields("start_latency_ns", method.start_latency_ns);
  fields.or_default("hit_read_bandwidth_bytes_per_s", method.hit_read_bandwidth_bytes_per_s);
  fields.or_default("chunk_bytes", method.chunk_bytes);
  fields.or_default("ctas", method.ctas);
  fields.if_any("eviction", method.eviction);
  fields.if_any("issue", method.issue);
  auto& slowdowns = method.operator_slowdown_per_byte_ns;
  fields.group_if(slowdowns.any(), kSlowdowns, [&](auto& by_class) {
    for (const OperatorClass of : kOperatorClasses) by_class.if_any(to_string(of), slowdowns[of]);
  });
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, CollectiveFit>& fit) {
  fields("function", fit.function);
  fields("library", fit.library);
  fields("ranks", fit.ranks);
  fields("latency_ns", fit.latency_ns);
  fields("bandwidth_bytes_per_s", fit.bandwidth_bytes_per_s);
  fields.or_default("max_relative_error", fit.max_relative_error);
  fields.or_default("min_bytes", fit.min_bytes);
  fields.or_default("max_bytes", fit.max_bytes);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, OperatorTable::Axis>& axis) {
  fields("name", axis.name);
  fields("knots", axis.knots);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, OperatorTable>& table) {
  fields("operation", table.operation);
  fields("dtype", table.dtype);
  fields("engine", table.engine);
  fields("version", table.version);
  fields("kernel", table.kernel);
  fields("source", table.source);
  fields("rows", table.rows);
  fields("median_relative_error", table.median_relative_error);
  fields("p90_relative_error", table.p90_relative_error);
  fields("latency_ns", table.latency_ns);
  fields("bandwidth_bytes_per_s", table.bandwidth_bytes_per_s);
  fields("axes", table.axes);
  fields("factors", table.factors);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, DeviceMeasurement>& measurement) {
  fields("name", measurement.name);
  fields("unit", measurement.unit);
  fields("median", measurement.median);
  fields("mad", measurement.mad);
  fields("n", measurement.n);
  fields.if_any("note", measurement.note);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, DeviceInterval>& interval) {
  fields("figure", interval.figure);
  fields("low", interval.low);
  fields("high", interval.high);
  fields("n", interval.n);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, DeviceModel>& device) {
  fields("name", device.name);
  fields("kind", device.kind);
  fields("source", device.source);
  fields.or_default("ranks", device.ranks);
  fields.or_default("multiprocessors", device.multiprocessors);
  fields("cache_bytes", device.cache_bytes);
  fields("cache_budget_bytes", device.cache_budget_bytes);
  fields.or_default("memory_bytes", device.memory_bytes);
  fields("memory_bandwidth_bytes_per_s", device.memory_bandwidth_bytes_per_s);
  fields.or_default("memory_bandwidth_low_bytes_per_s", device.memory_bandwidth_low_bytes_per_s);
  fields("cache_read_bandwidth_bytes_per_s", device.cache_read_bandwidth_bytes_per_s);
  fields.or_default("slowdown_per_byte_ns", device.slowdown_per_byte_ns);
  fields.or_default("window_cost_ns", device.window_cost_ns);
  fields.or_default("op_floor_ns", device.op_floor_ns);
  fields.or_default("flops_fp16_per_s", device.flops_fp16_per_s);
  fields.or_default("flops_fp8_per_s", device.flops_fp8_per_s);
  fields.or_default("flops_fp4_per_s", device.flops_fp4_per_s);
  fields.or_default("flops_int8_per_s", device.flops_int8_per_s);
  fields.or_default("survival", device.survival);
  fields("methods", device.methods);
  fields.or_default("collectives", device.collectives);
  fields.or_default("operators", device.operators);
  fields.or_default("measurements", device.measurements);
  fields.or_default("notes", device.notes);
  fields.if_any("intervals", device.intervals);
  fields.group_if(!device.verdict.empty(), "verdict", [&](auto& verdict) {
    verdict("result", device.verdict);
    verdict.or_default("reason", device.verdict_reason);
  });
}

// --- what a schema cannot say --------------------------------------------------------------------

namespace {

void check_operator(const OperatorTable& table, const std::string& at, const fs::path& path) {
  const std::vector<const char*> names = table.operation == "gemm"
                                             ? std::vector{"m", "n", "k"}
                                             : std::vector{"streams", "context", "group"};
  size_t size = 1;
  for (size_t i = 0; i < table.axes.size(); ++i) {
    const OperatorTable::Axis& axis = table.axes[i];
    const std::string here = fmt::format("{}/axes/{}", at, i);
    if (axis.name != names[i]) {
      throw error_at(path, here + "/name", "'{}', but axis {} of {} is {}", printable(axis.name), i,
                     table.operation, names[i]);
    }
    if (!std::ranges::is_sorted(axis.knots, std::less_equal<>())) {
      throw error_at(path, here + "/knots", "knots must ascend");
    }
    size *= axis.knots.size();
  }
  if (table.factors.size() != size) {
    throw error_at(path, at + "/factors", "{} factors for a grid of {}", table.factors.size(),
                   size);
  }
}

void check_device(const DeviceModel& device, const fs::path& path) {
  if (device.cache_bytes == 0) {
    throw error_at(path, "/cache_bytes", "a device without a cache cannot hold prefetched bytes");
  }
  if (device.cache_budget_bytes > device.cache_bytes) {
    throw error_at(path, "/cache_budget_bytes", "{} is more than the whole cache (cache_bytes {})",
                   device.cache_budget_bytes, device.cache_bytes);
  }
  for (const DeviceInterval& interval : device.intervals) {
    if (interval.low <= interval.high) continue;
    throw error_at(path, "/intervals", "that of {} ends before it begins",
                   printable(interval.figure));
  }
  for (size_t i = 1; i < device.survival.size(); ++i) {
    const int64_t before = device.survival[i - 1].footprint_bytes;
    const int64_t here = device.survival[i].footprint_bytes;
    if (before < here) continue;
    throw error_at(path, fmt::format("/survival/{}/footprint_bytes", i),
                   "points must ascend, but {} follows {}", here, before);
  }
  for (size_t i = 0; i < device.operators.size(); ++i) {
    check_operator(device.operators[i], fmt::format("/operators/{}", i), path);
  }
}

}  // namespace

DeviceModel load_device(const fs::path& path) {
  const json document = load_json(
      path, kFormat,
      " is not a device file: it lacks \"schema\": \"preserve/device\"; preserve-calibrate makes "
      "one for this machine, examples/devices has published ones");
  DeviceModel device;
  FieldReader reader(document);
  describe(reader, device);
  check_device(device, path);
  return device;
}

std::string to_json(const DeviceModel& device) {
  ordered_json document{{"schema", kFormat.schema}, {"version", kFormat.version}};
  FieldWriter writer(document);
  describe(writer, device);
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

double most_cached_bytes(const DeviceModel& device) {
  if (device.survival.empty()) return static_cast<double>(device.cache_budget_bytes);
  double cached = std::numeric_limits<double>::infinity();
  for (auto point = device.survival.rbegin(); point != device.survival.rend(); ++point) {
    if (point->hit_fraction > 0) break;
    cached = static_cast<double>(point->footprint_bytes);
  }
  return cached;
}

double waiting_age(const DeviceModel& device) {
  constexpr double kEarly = 1.1;
  return !outlasts_window(device) || device.survival.empty() ? 1 : kEarly;
}

}  // namespace preserve
