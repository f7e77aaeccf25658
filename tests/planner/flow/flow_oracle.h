// SPDX-License-Identifier: Apache-2.0
// An independent judge of the flow solvers: LEMON's network simplex. Tests only.
#pragma once

#include "planner/flow/flow.h"

namespace preserve::test {

// The largest profit of the problem, by a solver that shares no code with ours.
int64_t lemon_profit(const FlowProblem& problem);

}  // namespace preserve::test
