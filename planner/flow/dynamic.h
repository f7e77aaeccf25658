// SPDX-License-Identifier: Apache-2.0
// The solver that solve_flow() (flow.h) uses: fills supplied, consumed, held and profit of a
// problem that passed check_flow_problem() and has at least one node.
#pragma once

#include "planner/flow/flow.h"

namespace preserve {

FlowSolution solve_flow_dynamic(const FlowProblem& problem);

}  // namespace preserve
