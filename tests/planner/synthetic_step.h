// SPDX-License-Identifier: Apache-2.0
// Folded decode steps made from numbers, without a database: for planner tests and benchmarks that
// need many, or large ones. Deterministic for a seed.
#pragma once

#include <cstdint>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve::test {

struct SyntheticStep {
  int layers = 4;
  int64_t hidden_bytes = 8192;       // a norm's weight
  int64_t qkv_bytes = 3 << 20;       // o_proj is two thirds of it
  int64_t gate_up_bytes = 12 << 20;  // down is half of it
  int64_t kv_bytes = 1 << 20;
  double bandwidth_bytes_per_s = 2.6e12;  // what operators reach
  double op_latency_ns = 1500;
  double allreduce_ns = 12'000;
  double noise = 0.1;  // relative spread of durations
  uint64_t seed = 1;
};

// Per layer 12 operators, two of them allreduces.
FoldedStep synthetic_step(const SyntheticStep& spec = {});

// A step without regularity: random operators, bytes, collectives, tensors used several times.
FoldedStep random_step(uint64_t seed, int largest_ops = 60);
// A device to go with it, every limit random.
DeviceModel random_device(uint64_t seed);

struct RandomCase {
  FoldedStep step;
  DeviceModel device;
};
inline RandomCase random_case(uint64_t seed) {
  return {random_step(seed), random_device(seed)};
}

}  // namespace preserve::test
