// SPDX-License-Identifier: Apache-2.0
// Independent judges of the flow solver: LEMON's network simplex, Boost.Graph's successive shortest
// paths. Tests only.
#pragma once

#include "planner/flow/flow.h"

namespace preserve::test {

// The largest profit of the problem, by solvers that share no code with ours.
int64_t lemon_profit(const FlowProblem& problem);
int64_t successive_paths_profit(const FlowProblem& problem);

}  // namespace preserve::test
