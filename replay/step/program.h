// SPDX-License-Identifier: Apache-2.0
// trace.db and schedule.json turned into what an executor runs: a list of operators with the bytes
// they move, and per arm the slices to fetch in each window. Pure; all checking of foreign numbers
// is done here and in planner/schedule/schedule_check.h, so that executors can trust what they get.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/schedule.h"

namespace preserve {

struct TensorSlice {
  int32_t tensor = 0;  // index into StepProgram::tensors
  int64_t offset_bytes = 0, bytes = 0;
};

struct ProgramOp {
  OpKind kind = OpKind::other;
  std::string name;
  int64_t gap_ns = 0;                               // idle time of the rank before it
  int64_t dur_ns = 0;                               // recorded
  std::vector<TensorSlice> weights, reads, writes;  // weights: by matrix-vector product
  std::optional<StepCollective> collective;         // one that is repeated over MPI
  // A matrix product whose weights, n x k elements of a known type, are weights.front(). Nothing
  // where shape and recorded bytes do not agree.
  std::optional<StepGemm> gemm;
};

struct ProgramTensor {
  std::string name;
  int64_t bytes = 0;
};

struct StepProgram {
  std::vector<ProgramOp> ops;  // index is the ordinal
  std::vector<ProgramTensor> tensors;
  int64_t tail_ns = 0;       // idle time after the last operator
  int64_t step_ns = 0;       // recorded
  int64_t tensor_bytes = 0;  // all tensors together
  std::vector<std::string> warnings;
};

// Throws input_error, naming operator or tensor, when the step cannot be rebuilt.
StepProgram program_of(const FoldedStep& step);

// True when both have the same operators in the same order, collectives included: ranks can only
// meet in their collectives when they run the same program.
bool same_operators(const StepProgram& a, const StepProgram& b);

// overlap: each collective in pieces while the next piece of the operator before it runs; GPU only.
enum class ArmKind { baseline, plan, null_plan, useless, hot, overlap };

struct ArmWindow {
  int32_t ordinal = 0;  // of its operator, mostly a collective
  std::vector<TensorSlice> slices;
};

struct ReplayArm {
  std::string name;
  ArmKind kind = ArmKind::baseline;
  std::vector<ArmWindow> windows{};  // ascending ordinal; empty for baseline and hot
  std::vector<int32_t> consumers{};  // ordinals that read what was fetched
  int64_t planned_bytes = 0;         // per step
  IssueMethod method{};              // of what fetches; null and useless have prefetch's
  int64_t cache_peak_bytes = 0;      // most that is fetched and not yet read
};

// The arms of a schedule: baseline, prefetch, null, useless, hot and, when asked for, prefetch-1
// ... from its candidates. check_schedule() has passed on the step that `program` was made from.
std::vector<ReplayArm> arms_of(const StepProgram& program, const Schedule& schedule,
                               bool candidates);

}  // namespace preserve
