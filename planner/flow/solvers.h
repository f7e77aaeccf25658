// SPDX-License-Identifier: Apache-2.0
// The two solvers behind solve_flow() (flow.h). Each fills supplied, consumed, held and profit of a
// problem that passed check_flow_problem() and has at least one node.
#pragma once

#include "planner/flow/flow.h"

namespace preserve {

FlowSolution solve_flow_dynamic(const FlowProblem& problem);    // flow_dynamic.cc
FlowSolution solve_flow_reference(const FlowProblem& problem);  // flow_reference.cc

}  // namespace preserve
