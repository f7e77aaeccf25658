// SPDX-License-Identifier: Apache-2.0
// A decode step before there is a recording: operators, bytes and durations of one rank of a
// tensor-parallel decoder, from its config.json and a device file. Names and roles are those that a
// recorded engine would have. docs/model-steps.md says what is modelled and what is left out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"
#include "planner/workload/model/config.h"

namespace preserve {

struct WorkloadSpec {
  ModelConfig model;
  int64_t ranks = 1;                 // tensor parallel
  int64_t batch = 1;                 // sequences of the step
  int64_t new_tokens = 1;            // of each sequence; 1: it decodes, more: a prefill
  int64_t context = 4096;            // tokens per sequence in the KV-cache
  std::vector<int64_t> contexts{};   // of each sequence, instead of `context`; empty or `batch`
  std::optional<WeightType> type{};  // of all layers' weights, and of the KV-cache unless kv_type
  std::optional<WeightType> kv_type{};    // nothing in both: as the model says
  std::optional<int64_t> allreduce_ns{};  // instead of the device's fit
  double engine_overhead = 1;  // step time over the time of its operators: gaps between kernels
};

// No engine keeps the KV-cache in four bits unasked: with weights of int4 it is 16-bit, of fp4 fp8.
WeightType kv_type_of(const WorkloadSpec& spec);

// Of one rank.
struct WorkloadBytes {
  int64_t weights = 0;    // of the layers, all experts
  int64_t head = 0;       // lm_head
  int64_t embedding = 0;  // 0 when it is the head
  int64_t kv = 0;         // of all layers, whole batch
  int64_t state = 0;      // of layers without a KV-cache
  int64_t total = 0;      // what must fit the device's memory
};

// What an operator is, and where its time is from.
struct OperatorNote {
  const char* kind;         // "product", "attention", "small", "collective", "state", "engine"
  const char* time_source;  // "table", "roofline", "fit", ...
  // Rows of each matrix that its weight is made of, in order (queries, keys, values): engines may
  // run a product for each. Empty: it is one matrix.
  std::vector<int64_t> parts{};
};

struct Workload {
  FoldedStep step;
  std::vector<OperatorNote> notes;  // one per operator
  WorkloadBytes bytes;
  std::string summary;  // several lines: model, bytes of a rank, what the time is and is from
};

// usage_error when a number is out of range. not_applicable_error when ranks do not divide the
// model or the step does not fit the device's memory. input_error when the device lacks the
// arithmetic rate or the collective time. Doubts go to FoldedStep::warnings.
Workload generate_workload(const WorkloadSpec& spec, const DeviceModel& device);

// Which part of the model so many ranks do not divide; empty: they divide all of it.
std::string undivided(const ModelConfig& model, int64_t ranks);

// Of all that an operator accesses.
int64_t read_bytes(const StepOp& op);

// Steps of a generated trace; all are alike, so one would do, but readers expect repetition.
inline constexpr int64_t kWorkloadSteps = 3;

}  // namespace preserve
