// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/operator_times.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/collective_time.h"
#include "planner/schedule/operator_time.h"

namespace preserve {
namespace {

// Numbers per token and head of the attention that tables were measured with: keys and values of
// 128.
constexpr double kTableWidth = 256;

// In the name of a kernel, as scripts/make-device-presets --like writes it.
constexpr std::string_view kScaled = ", scaled from ";

double element_bytes(std::string_view dtype) {
  if (dtype == "fp16") return 2;
  return dtype == "fp4" ? 0.5 : 1;
}

}  // namespace

double arithmetic_rate(const DeviceModel& device, WeightType type) {
  switch (type) {
    case WeightType::fp16:
    case WeightType::int4:  // multiplied as 16-bit numbers
      return device.flops_fp16_per_s;
    case WeightType::int8:
      return device.flops_int8_per_s;
    case WeightType::fp8:
      return device.flops_fp8_per_s;
    case WeightType::fp4:
      return device.flops_fp4_per_s;
  }
  throw internal_error("no such weight type");
}

DeviceModel with_collectives(DeviceModel device, const std::string& library) {
  if (library.empty()) return device;
  std::vector<std::string> known;
  for (const CollectiveFit& fit : device.collectives) {
    if (std::ranges::find(known, fit.library) == known.end()) {
      known.push_back(fit.library);
    }
  }
  if (std::ranges::find(known, library) == known.end()) {
    throw input_error(
        "device {} has no collectives of library '{}'; it has {}", printable(device.name),
        printable(library),
        known.empty() ? "none" : printable(fmt::format("{}", fmt::join(known, ", "))));
  }
  std::erase_if(device.collectives,
                [&](const CollectiveFit& fit) { return fit.library != library; });
  return device;
}

OperatorTimes::OperatorTimes(const DeviceModel& device) : device_(device) {
  const double rate = device.memory_bandwidth_bytes_per_s;
  if (std::isfinite(rate) && rate > 0 && device.op_floor_ns >= 0) return;
  throw input_error("device {}: invalid memory bandwidth {} or operator floor {} ns", device.name,
                    rate, device.op_floor_ns);
}

double OperatorTimes::arithmetic_ns(double operations, WeightType type) const {
  const double rate = arithmetic_rate(device_, type);
  if (std::isfinite(rate) && rate > 0) return operations / rate * kNsPerS;
  throw input_error(
      "device {} states no {} arithmetic rate: choose another --dtype, or add flops_{}_per_s",
      device_.name, to_string(type), to_string(type));
}

const OperatorTable* OperatorTimes::table_for(const char* operation, WeightType type) const {
  std::vector<WeightType> types{type};
  // Kernels of both convert activations first; those of int4 convert weights as they read them.
  if (type == WeightType::int8 || type == WeightType::fp4) types.push_back(WeightType::fp8);
  types.push_back(WeightType::fp16);
  for (const WeightType other : types) {
    const OperatorTable* table = find_operator_table(device_, operation, to_string(other));
    if (table != nullptr) return table;
  }
  return nullptr;
}

TimedOperator OperatorTimes::from_table(const OperatorTable& table, std::array<double, 3> place,
                                        int64_t size_bytes, bool same_type) {
  const OperatorTime time = operator_time(table, place, static_cast<double>(size_bytes));
  sources_.insert(fmt::format("{} {} of {} {} ({}), median error {:.1f} %", table.operation,
                              table.dtype, table.engine, table.version, table.kernel,
                              100 * table.median_relative_error));
  TimedOperator timed{.dur_ns = time.dur_ns, .source = "table"};
  if (const size_t at = table.kernel.find(kScaled); at != std::string::npos) {
    timed.source = "table of another device, scaled";
    warnings_.insert(fmt::format(
        "{} times were not measured on {}: those of {} are scaled to its memory", table.operation,
        device_.name, printable(table.kernel.substr(at + kScaled.size()))));
  }
  if (time.extrapolated) {
    timed.source = "table, extrapolated";
    warnings_.insert(
        fmt::format("some {}s are outside what was measured on {}: their times are extrapolated",
                    table.operation == "gemm" ? "matrix product" : "attention", device_.name));
  }
  if (!same_type) {
    timed.source = "table of another type, by bytes";
    warnings_.insert(
        fmt::format("{} has no {} times of that type: those of {} with as many bytes are taken",
                    device_.name, table.operation, table.dtype));
  }
  return timed;
}

TimedOperator OperatorTimes::product(int64_t m, int64_t n, int64_t k, WeightType type,
                                     int64_t size_bytes) {
  const double operations =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const double arithmetic = arithmetic_ns(operations, type);
  TimedOperator timed = small(size_bytes);
  const double floor_ns = static_cast<double>(device_.op_floor_ns) + arithmetic;
  if (const OperatorTable* table = table_for("gemm", type)) {
    const bool same = table->dtype == to_string(type);
    // Of another type: a product of that type which reads as many bytes.
    const double columns = same ? static_cast<double>(k)
                                : static_cast<double>(size_bytes) / static_cast<double>(n) /
                                      element_bytes(table->dtype);
    timed =
        from_table(*table, {static_cast<double>(m), static_cast<double>(n), std::max(1.0, columns)},
                   size_bytes, same);
  }
  timed.dur_ns = std::round(std::max(timed.dur_ns, floor_ns));
  timed.floor_ns = std::round(floor_ns);
  return timed;
}

TimedOperator OperatorTimes::attention(const std::vector<int64_t>& contexts, int64_t kv_heads,
                                       int64_t width, int64_t group, WeightType kv_type,
                                       int64_t size_bytes) {
  const auto sequences = static_cast<double>(contexts.size());
  const double tokens = std::accumulate(contexts.begin(), contexts.end(), 0.0);
  const auto longest = static_cast<double>(*std::ranges::max_element(contexts));
  // Two multiply-adds per number of the cache and query head that shares it, in 16 bits.
  const double arithmetic =
      arithmetic_ns(2.0 * tokens * static_cast<double>(kv_heads) * static_cast<double>(width) *
                        static_cast<double>(group),
                    WeightType::fp16);
  TimedOperator timed = small(size_bytes);
  const double floor_ns = static_cast<double>(device_.op_floor_ns) + arithmetic;
  if (const OperatorTable* table = table_for("attention", kv_type)) {
    const bool same = table->dtype == to_string(kv_type);
    // Tokens of the width and type that were measured which have as many bytes.
    const double scale =
        static_cast<double>(size_bytes) /
        (tokens * static_cast<double>(kv_heads) * kTableWidth * element_bytes(table->dtype));
    const auto streams = static_cast<double>(kv_heads);
    const auto place = [&](double sequence_count, double context) {
      return std::array{sequence_count * streams, std::max(1.0, context * scale),
                        static_cast<double>(group)};
    };
    timed = from_table(*table, place(sequences, tokens / sequences), size_bytes, same);
    // The longest sequence is not faster in company.
    const double share = longest / tokens * static_cast<double>(size_bytes);
    timed.dur_ns = std::max(timed.dur_ns, operator_time(*table, place(1, longest), share).dur_ns);
  }
  timed.dur_ns = std::round(std::max(timed.dur_ns, floor_ns));
  timed.floor_ns = std::round(floor_ns);
  return timed;
}

TimedOperator OperatorTimes::small(int64_t size_bytes) const {
  const double memory_ns =
      static_cast<double>(size_bytes) / device_.memory_bandwidth_bytes_per_s * kNsPerS;
  return {.dur_ns = std::round(static_cast<double>(device_.op_floor_ns) + memory_ns),
          .source = "roofline"};
}

bool OperatorTimes::has_allgather() const {
  return std::ranges::any_of(device_.collectives,
                             [](const CollectiveFit& fit) { return fit.function == "allgather"; });
}

TimedOperator OperatorTimes::collective(const std::string& function, int64_t ranks,
                                        int64_t size_bytes, std::optional<int64_t> option_ns) {
  if (option_ns) return {.dur_ns = static_cast<double>(*option_ns), .source = "--allreduce-time"};
  const CollectiveTime time = collective_time(device_, function, ranks, size_bytes);
  TimedOperator timed{.dur_ns = std::round(time.dur_ns), .source = "fit"};
  if (time.extrapolated) {
    timed.source = "fit, extrapolated";
    warnings_.insert(fmt::format(
        "{} of {} on {} ranks is outside the sizes measured on {}: its {} is extrapolated",
        function, format_size(size_bytes), ranks, device_.name, format_duration(time.dur_ns)));
  }
  if (time.between_ranks) {
    timed.source = "fit, between ranks";
    warnings_.insert(
        fmt::format("{} on {} ranks is interpolated: {} has measurements of fewer and "
                    "of more ranks only",
                    function, ranks, device_.name));
  }
  sources_.insert(fmt::format("{} of library {}", function, time.library));
  return timed;
}

}  // namespace preserve
