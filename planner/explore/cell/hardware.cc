// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/hardware.h"

#include <algorithm>
#include <cmath>

namespace preserve {
namespace {

void change_cache(DeviceModel& device, int64_t cache_bytes) {
  const double ratio = static_cast<double>(cache_bytes) / static_cast<double>(device.cache_bytes);
  const auto scaled = [ratio](int64_t bytes) {
    return static_cast<int64_t>(std::floor(static_cast<double>(bytes) * ratio));
  };
  device.cache_budget_bytes = std::min(scaled(device.cache_budget_bytes), cache_bytes);
  for (SurvivalPoint& point : device.survival)
    point.footprint_bytes = scaled(point.footprint_bytes);
  device.cache_bytes = cache_bytes;
}

void change_memory_bandwidth(DeviceModel& device, double bytes_per_s) {
  const double ratio = bytes_per_s / device.memory_bandwidth_bytes_per_s;
  device.memory_bandwidth_bytes_per_s = bytes_per_s;
  for (PrefetchMethod& method : device.methods) method.bandwidth_bytes_per_s *= ratio;
  device.operators.clear();
}

void change_arithmetic(DeviceModel& device, double factor) {
  device.flops_fp16_per_s *= factor;
  device.flops_fp8_per_s *= factor;
  device.flops_fp4_per_s *= factor;
  device.flops_int8_per_s *= factor;
  device.operators.clear();
}

void change_network(DeviceModel& device, int64_t ranks, double latency_ns, double bytes_per_s) {
  device.collectives.clear();
  if (ranks == 1) return;
  const auto count = static_cast<double>(ranks);
  device.collectives.push_back({.function = "allreduce",
                                .library = "latency and bandwidth",
                                .ranks = ranks,
                                .latency_ns = latency_ns,
                                .bandwidth_bytes_per_s = bytes_per_s * count / (2 * (count - 1))});
  device.collectives.push_back({.function = "allgather",
                                .library = "latency and bandwidth",
                                .ranks = ranks,
                                .latency_ns = latency_ns,
                                .bandwidth_bytes_per_s = bytes_per_s / (count - 1)});
}

}  // namespace

DeviceModel changed_device(const ExplorePoint& point) {
  DeviceModel device = *point.device;
  if (point.cache_bytes) change_cache(device, *point.cache_bytes);
  if (point.memory_bytes) device.memory_bytes = *point.memory_bytes;
  if (point.memory_bandwidth_bytes_per_s) {
    change_memory_bandwidth(device, *point.memory_bandwidth_bytes_per_s);
  }
  if (point.arithmetic_factor) change_arithmetic(device, *point.arithmetic_factor);
  if (point.network_bandwidth_bytes_per_s) {
    change_network(device, point.ranks, point.network_latency_ns.value_or(0),
                   *point.network_bandwidth_bytes_per_s);
  }
  return device;
}

ModelConfig changed_model(const ExplorePoint& point) {
  ModelConfig model = *point.model;
  for (LayerShape& layer : model.layers) {
    if (!layer.attention) continue;
    if (point.kv_heads) layer.attention->kv_heads = *point.kv_heads;
    if (point.whole_context) layer.attention->window = 0;
  }
  return model;
}

}  // namespace preserve
