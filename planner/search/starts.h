// SPDX-License-Identifier: Apache-2.0
// The plans of the flow with which a search begins.
#pragma once

#include <vector>

#include "planner/search/decompose.h"

namespace preserve {

// The optimum of the step as recorded, and up to three times (of a step of more than 20,000
// operators once) that of the step in which the reads of the plan before hit: they leave the memory
// to the stream, and end earlier.
std::vector<Decomposition> flow_plans(const FoldedStep& step, const DeviceModel& device,
                                      const ProblemOptions& options, const SolvedProblem& recorded);

// Ordinals at which the plans may fetch, ascending.
std::vector<int32_t> windows_of(const std::vector<Decomposition>& plans);

}  // namespace preserve
