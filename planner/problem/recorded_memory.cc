// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/recorded_memory.h"

#include <algorithm>
#include <utility>

#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr double kLeastBytes = 1 << 20;  // smaller operators show their start as well
constexpr double kWorthSaying = 0.9;
constexpr double kMostlyArithmetic = 0.5;  // of the time, at least so much even if all is cached

double read_bytes(const StepOp& op) {
  double bytes = 0;
  for (const StepAccess& access : op.accesses) {
    if (access.mode == AccessMode::read) bytes += static_cast<double>(access.bytes);
  }
  return bytes;
}

// 0 where no operator reads enough.
double median_read_rate(const FoldedStep& step) {
  std::vector<std::pair<double, double>> rates;  // bytes/s, bytes
  double total_bytes = 0;
  for (const StepOp& op : step.ops) {
    const double bytes = op.kind == OpKind::compute ? read_bytes(op) : 0;
    if (bytes < kLeastBytes || op.floor_ns >= kMostlyArithmetic * op.dur_ns) continue;
    rates.emplace_back(bytes / op.dur_ns * kNsPerS, bytes);
    total_bytes += bytes;
  }
  std::ranges::sort(rates);
  double bytes_so_far = 0;
  for (const auto& [rate, bytes] : rates) {
    bytes_so_far += bytes;
    if (2 * bytes_so_far >= total_bytes) return rate;
  }
  return 0;
}

}  // namespace

DeviceModel with_recorded_memory(const DeviceModel& device, const FoldedStep& step,
                                 std::vector<std::string>& said) {
  const double least = device.memory_bandwidth_low_bytes_per_s;
  const double calibrated = device.memory_bandwidth_bytes_per_s;
  const double recorded = step.phase == StepPhase::prefill ? 0 : median_read_rate(step);
  if (least <= 0 || recorded < least || recorded >= calibrated) return device;
  DeviceModel changed = device;
  changed.memory_bandwidth_bytes_per_s = recorded;
  if (recorded < kWorthSaying * calibrated) {
    said.push_back(
        fmt::format("planned with memory at {}, as the operators of the recording read; most cold "
                    "reads of the calibration lay between {} and {}",
                    format_rate(recorded), format_rate(least), format_rate(calibrated)));
  }
  return changed;
}

}  // namespace preserve
