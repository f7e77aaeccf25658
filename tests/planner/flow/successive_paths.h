// SPDX-License-Identifier: Apache-2.0
// An independent judge of the flow solver: Boost.Graph's successive shortest paths.
#pragma once

#include "planner/flow/flow.h"

namespace preserve::test {

// The largest profit of the problem.
int64_t successive_paths_profit(const FlowProblem& problem);

}  // namespace preserve::test
