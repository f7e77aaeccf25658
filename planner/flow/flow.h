// SPDX-License-Identifier: Apache-2.0
// The planner's optimisation problem in its purest form, and its exact solution: blocks enter a
// ring of nodes from supplies (at a cost), are held along its edges (at no cost, up to a capacity),
// and leave to demands (at a profit). Maximise profit minus cost. All numbers are integers, so the
// optimum is exact: O((n + s) log s) per evaluation for n nodes and s supplies and demands.
// docs/planning.md has the mathematics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace preserve {

struct FlowSupply {
  int32_t node = 0;
  int64_t capacity = 0;  // blocks
  int64_t cost = 0;      // per block, >= 0
};

struct FlowDemand {
  int32_t node = 0;
  int64_t capacity = 0;  // blocks
  int64_t profit = 0;    // per block, > 0
};

struct FlowProblem {
  std::vector<int64_t> hold;  // capacity of the edge node -> node + 1; the last one wraps to 0
  std::vector<FlowSupply> supplies;  // by ascending node
  std::vector<FlowDemand> demands;   // by ascending node
};

struct FlowSolution {
  int64_t profit = 0;             // of demands, minus cost of supplies
  std::vector<int64_t> supplied;  // per supply
  std::vector<int64_t> consumed;  // per demand
  std::vector<int64_t> held;      // per edge; some edge holds 0
  // Dual price of one more block at each node: the least one that proves the solution optimal.
  std::vector<int64_t> price;
};

// An optimal flow with its prices. Throws internal_error when the result fails its own proof.
FlowSolution solve_flow(const FlowProblem& problem);

// Empty when `solution` is feasible and its prices satisfy complementary slackness, which proves it
// optimal; otherwise the first violation in words. Linear time.
std::string why_not_optimal(const FlowProblem& problem, const FlowSolution& solution);

// Throws internal_error when capacities, costs, order or magnitudes break the contract above.
void check_flow_problem(const FlowProblem& problem);

}  // namespace preserve
