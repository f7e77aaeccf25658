// SPDX-License-Identifier: Apache-2.0
// Writes a model's layers as the operators of one rank, in the order in which an engine runs them.
#pragma once

#include "planner/workload/operator_times.h"
#include "planner/workload/workload.h"

namespace preserve {

// `spec` must be within the ranges and divide the model; its `contexts` one per sequence. Without
// trace_file, summary and the doubts that are not about times.
Workload write_step(const WorkloadSpec& spec, OperatorTimes& times);

}  // namespace preserve
