// SPDX-License-Identifier: Apache-2.0
// A step, what is prefetched in it, and what the referee says of both on a tiny_device().
#pragma once

#include "planner/referee/simulator.h"
#include "tests/planner/tiny_step.h"

namespace preserve::test {

struct Simulated : TinyStep {
  explicit Simulated(int64_t cache_bytes) : device(tiny_device(cache_bytes)) {}

  void prefetch(int32_t window, int32_t consumer, int64_t bytes, int64_t offset_bytes = 0) {
    test::prefetch(plan, **this, window, consumer, bytes, offset_bytes);
  }
  SimulationResult run(const SimulationOptions& options = {}) const {
    return simulate(**this, device, plan, options);
  }

  DeviceModel device;
  Plan plan;
};

// allreduce 10 us, a reader of 100 kB, and one of 200 kB, both at memory speed.
struct WithBetween : Simulated {
  using Simulated::Simulated;
  int32_t window = collective(10'000);
  int32_t between = reader("between", 100'000, 10'000);
  int32_t consumer = reader("gemm", 200'000, 20'000);
};

}  // namespace preserve::test
