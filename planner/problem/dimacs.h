// SPDX-License-Identifier: Apache-2.0
// The flow problem in the DIMACS minimum-cost-flow format, so that any external solver can confirm
// the optimum: `glpsol --mincost FILE`. A circulation: no supplies; the arcs out of and into node 1
// carry the windows' costs and the consumers' profits (negative). Minus the optimal cost over the
// `cost_per_ns` of the comment line is predicted.objective_ns.
#pragma once

#include <string>

#include "planner/problem/problem.h"

namespace preserve {

std::string to_dimacs(const PlanProblem& problem);

}  // namespace preserve
