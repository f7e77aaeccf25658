// SPDX-License-Identifier: Apache-2.0
// A simulated GPU that is small enough to be calibrated in a blink.
#pragma once

#include "replay/gpu/calibrate/calibrate.h"
#include "tests/support/fake_gpu.h"

namespace preserve::test {

inline constexpr int64_t kMiB = 1 << 20;
inline constexpr int64_t kL2 = kMiB / 8;
inline constexpr int64_t kBlock = 512;

// As small as its simulation is fast, with the proportions of a large one.
inline FakeGpuProperties small_gpu() {
  FakeGpuProperties properties;
  properties.block_bytes = kBlock;
  properties.facts.l2_bytes = kL2;
  properties.facts.persisting_l2_max_bytes = kL2 / 2;
  properties.facts.persisting_l2_default_bytes = kL2 / 4;
  properties.facts.free_bytes = 16 * kMiB;
  properties.effective_l2_bytes = 3 * kL2 / 4;
  properties.cold_bytes_per_s = 4e9;
  properties.hot_bytes_per_s = 16e9;
  return properties;
}

inline GpuCalibrateOptions few_rounds(const FakeGpu& gpu) {
  GpuCalibrateOptions options;
  options.runs_per_value = 1;
  options.least_rounds = options.most_rounds = 1;
  options.every_chunk = false;
  options.clock = [&gpu] { return gpu.monotonic_ns(); };
  return options;
}

inline DeviceModel calibrate(FakeGpu& gpu) {
  return device_from(measure_gpu(gpu, few_rounds(gpu)));
}
inline DeviceModel calibrate(const FakeGpuProperties& properties) {
  FakeGpu gpu(properties);
  return calibrate(gpu);
}

}  // namespace preserve::test
