// SPDX-License-Identifier: Apache-2.0
// The made-up devices of the tests, each with one purpose. A test that needs another number changes
// that number in its own copy.
#pragma once

#include <cstdint>

#include "planner/schedule/device.h"

namespace preserve::test {

// A CPU as preserve-calibrate describes one; accepted by load_device(). Prefetches by the core that
// computes.
inline DeviceModel cpu_device() {
  DeviceModel device;
  device.name = "box";
  device.kind = "cpu";
  device.source = "made up for tests";
  device.cache_bytes = 32 << 20;
  device.cache_budget_bytes = 4 << 20;
  device.memory_bandwidth_bytes_per_s = 20e9;
  device.cache_read_bandwidth_bytes_per_s = 60e9;
  device.slowdown_per_byte_ns = 1e-6;
  device.op_floor_ns = 500;
  device.methods = {{.name = "load",
                     .placement = "consumer",
                     .bandwidth_bytes_per_s = 15e9,
                     .start_latency_ns = 500,
                     .hit_read_bandwidth_bytes_per_s = 50e9,
                     .chunk_bytes = 4096}};
  return device;
}

// A GPU of the size of an H100; prefetches by spare SMs.
inline DeviceModel gpu_device() {
  DeviceModel device;
  device.name = "synthetic gpu";
  device.kind = "gpu";
  device.source = "made up for tests";
  device.cache_bytes = 50'000'000;
  device.cache_budget_bytes = 36'000'000;
  device.memory_bandwidth_bytes_per_s = 3e12;
  device.cache_read_bandwidth_bytes_per_s = 5.5e12;
  device.slowdown_per_byte_ns = 1e-5;
  device.op_floor_ns = 1000;
  device.methods = {{.name = "bulk_l2",
                     .placement = "spare",
                     .bandwidth_bytes_per_s = 2.2e12,
                     .start_latency_ns = 1500,
                     .chunk_bytes = 16384,
                     .ctas = 16}};
  return device;
}

// For arithmetic by hand: memory at 10 bytes/ns, cache at 40 bytes/ns, so that a byte that hits
// saves 0.075 ns. Prefetches by spare SMs.
inline constexpr double kSavedPerByteNs = 0.1 - 0.025;
inline DeviceModel tiny_device(int64_t budget_bytes) {
  DeviceModel device;
  device.name = "tiny";
  device.kind = "gpu";
  device.cache_bytes = device.cache_budget_bytes = budget_bytes;
  device.memory_bandwidth_bytes_per_s = 10e9;
  device.cache_read_bandwidth_bytes_per_s = 40e9;
  device.methods.push_back({.name = "bulk",
                            .placement = "spare",
                            .bandwidth_bytes_per_s = 10e9,
                            .start_latency_ns = 100});
  return device;
}

}  // namespace preserve::test
