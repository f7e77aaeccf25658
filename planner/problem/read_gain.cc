// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/read_gain.h"

#include <algorithm>

#include "common/units.h"

namespace preserve {

double hot_read_rate(const DeviceModel& device, const PrefetchMethod* method) {
  if (method != nullptr && method->hit_read_bandwidth_bytes_per_s > 0) {
    return method->hit_read_bandwidth_bytes_per_s;
  }
  return device.cache_read_bandwidth_bytes_per_s;
}

ReadGain read_gain(const StepOp& op, const DeviceModel& device, double hot_bytes_per_s) {
  ReadGain gain;
  for (const StepAccess& access : op.accesses) {
    if (access.mode == AccessMode::read) gain.read_bytes += static_cast<double>(access.bytes);
  }
  if (op.kind == OpKind::collective || gain.read_bytes <= 0 || op.dur_ns <= 0) return gain;
  gain.useful_bytes = std::min(gain.read_bytes, op.dur_ns * hot_bytes_per_s / kNsPerS);
  gain.clamped = gain.useful_bytes < gain.read_bytes;
  const double cold_ns = kNsPerS / device.memory_bandwidth_bytes_per_s;
  const double hot_ns = std::min(cold_ns, kNsPerS / hot_bytes_per_s);
  // An operator faster than the memory allows found part of its bytes cached already: all its bytes
  // together cannot have cost more than its duration.
  const double scale = std::min(1.0, op.dur_ns / (gain.useful_bytes * cold_ns));
  gain.saved_per_byte_ns = scale * (cold_ns - hot_ns);
  gain.hit_byte_ns = scale * hot_ns;
  const double floor_ns = std::max(static_cast<double>(device.op_floor_ns), op.floor_ns);
  gain.most_ns = std::clamp(op.dur_ns - floor_ns, 0.0, gain.useful_bytes * gain.saved_per_byte_ns);
  return gain;
}

}  // namespace preserve
