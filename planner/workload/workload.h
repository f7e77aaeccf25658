// SPDX-License-Identifier: Apache-2.0
// A decode step before there is a recording: operators, bytes and durations of one rank of a
// tensor-parallel decoder, from its config.json and a device file. Roofline: an operator lasts the
// longer of bytes / memory bandwidth and arithmetic / peak rate, plus the device's operator floor
// for launch and ramp. Allreduces come from the device's fits. Names and roles are those that a
// recorded engine would have. What is left out (activations, biases) is listed in
// docs/simulator.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"
#include "planner/workload/model_config.h"

namespace preserve {

// Of the layers' weights and the KV-cache. Activations, embeddings and the head stay 16-bit.
enum class WeightType { fp16, int8, fp8 };
const char* to_string(WeightType type);

struct WorkloadSpec {
  ModelConfig model;
  int64_t ranks = 1;       // tensor parallel
  int64_t batch = 1;       // sequences decoded together
  int64_t context = 4096;  // tokens per sequence in the KV-cache
  WeightType type = WeightType::fp16;
  std::optional<int64_t> allreduce_ns{};  // instead of the device's fit
};

// Bytes of one rank. Per layer, and of the whole model.
struct WorkloadBytes {
  int64_t qkv = 0, o_proj = 0, gate_up = 0, down = 0;  // weights of one layer
  int64_t kv = 0;                                      // keys and values of one layer, whole batch
  int64_t lm_head = 0, embedding = 0;                  // embedding 0 when it is the head
  int64_t allreduce = 0;                               // message
  int64_t total = 0;                                   // what must fit the device's memory
};

// Throws not_applicable_error when ranks do not divide the model, usage_error when a number is out
// of range.
WorkloadBytes workload_bytes(const WorkloadSpec& spec);

// Throws as workload_bytes(), not_applicable_error when the step does not fit the device's memory,
// and input_error when the device lacks the arithmetic rate or the collective time. Doubts go to
// FoldedStep::warnings.
FoldedStep make_workload(const WorkloadSpec& spec, const DeviceModel& device);

// Steps of a generated trace; all are alike, so one would do, but readers expect repetition.
inline constexpr int64_t kWorkloadSteps = 3;

}  // namespace preserve
