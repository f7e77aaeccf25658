// SPDX-License-Identifier: Apache-2.0
// Random rings for the flow tests, with the degenerate cases on purpose: zero capacities, ties,
// nodes with several supplies and demands, rings of one node.
#pragma once

#include <algorithm>
#include <random>

#include "planner/flow/flow.h"

namespace preserve::test {

inline FlowProblem random_flow(uint64_t seed, int largest_nodes, int64_t largest_capacity,
                               int64_t largest_price) {
  std::mt19937_64 random(seed);
  const auto below = [&random](int64_t limit) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(limit + 1));
  };
  const int nodes = 1 + static_cast<int>(below(largest_nodes - 1));
  // Some rings are dense and tight, some sparse and loose; few distinct prices make ties.
  const int64_t tightness = 1 + below(3);
  const int64_t prices = below(1) == 0 ? 3 : largest_price;
  const int64_t one_in = below(2) == 0 ? 4 : nodes * below(3);  // how rare edges without room are
  FlowProblem problem;
  for (int i = 0; i < nodes; ++i) {
    problem.hold.push_back(one_in > 0 && below(one_in) == 0 ? 0
                                                            : below(largest_capacity * tightness));
  }
  const int64_t supplies = below(nodes + 2), demands = below(nodes + 2);
  for (int64_t i = 0; i < supplies; ++i) {
    problem.supplies.push_back({static_cast<int32_t>(below(nodes - 1)), below(largest_capacity),
                                below(1) == 0 ? 0 : below(prices)});
  }
  for (int64_t i = 0; i < demands; ++i) {
    problem.demands.push_back(
        {static_cast<int32_t>(below(nodes - 1)), below(largest_capacity), below(prices)});
  }
  const auto by_node = [](const auto& a, const auto& b) { return a.node < b.node; };
  std::stable_sort(problem.supplies.begin(), problem.supplies.end(), by_node);
  std::stable_sort(problem.demands.begin(), problem.demands.end(), by_node);
  return problem;
}

}  // namespace preserve::test
