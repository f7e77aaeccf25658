// SPDX-License-Identifier: Apache-2.0
// schedule.json of a GPU, and the trace that it was made from, as the plan for CUDA graphs.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "apply/plan_content.h"
#include "apply/run/plan.h"
#include "db/step/folded_step.h"

namespace preserve::apply {

// Whether its prefetches are made by kernels.
bool is_for_graphs(const Schedule& schedule);

using CompiledGraphPlan = Compiled<GraphPlanContent>;

// `step`: as fold_step() gives it of the schedule's trace; `kernel_streams`: the ids of its streams
// on GPUs; `regions`: names of its NVTX memory regions. input_error, saying what to do, for what no
// graph can follow.
CompiledGraphPlan compile_graph_plan(const Schedule& schedule, const FoldedStep& step,
                                     const std::vector<int64_t>& kernel_streams,
                                     const std::set<std::string>& regions,
                                     const PlanRequest& request);

// The same of the trace that the schedule names. input_error when it is gone or another one.
CompiledGraphPlan compile_graph_plan(const Schedule& schedule, const PlanRequest& request);

}  // namespace preserve::apply
