// SPDX-License-Identifier: Apache-2.0
// Compiled as C++17: LEMON 1.3 does not know C++20's allocators.
#include "tests/planner/flow/flow_oracle.h"

#include <lemon/network_simplex.h>
#include <lemon/smart_graph.h>

#include <stdexcept>

namespace preserve::test {

int64_t lemon_profit(const FlowProblem& problem) {
  using lemon::SmartDigraph;
  SmartDigraph graph;
  std::vector<SmartDigraph::Node> nodes;
  for (size_t i = 0; i < problem.hold.size(); ++i) nodes.push_back(graph.addNode());
  const SmartDigraph::Node outside = graph.addNode();
  std::vector<int64_t> capacities, costs;
  const auto add = [&](SmartDigraph::Node from, SmartDigraph::Node to, int64_t capacity,
                       int64_t cost) {
    graph.addArc(from, to);
    capacities.push_back(capacity);
    costs.push_back(cost);
  };
  for (const FlowSupply& supply : problem.supplies) {
    add(outside, nodes[static_cast<size_t>(supply.node)], supply.capacity, supply.cost);
  }
  for (const FlowDemand& demand : problem.demands) {
    add(nodes[static_cast<size_t>(demand.node)], outside, demand.capacity, -demand.profit);
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    add(nodes[i], nodes[(i + 1) % nodes.size()], problem.hold[i], 0);
  }
  SmartDigraph::ArcMap<int64_t> capacity(graph), cost(graph);
  for (int i = 0; i < graph.arcNum(); ++i) {
    capacity[graph.arcFromId(i)] = capacities[static_cast<size_t>(i)];
    cost[graph.arcFromId(i)] = costs[static_cast<size_t>(i)];
  }
  using Simplex = lemon::NetworkSimplex<SmartDigraph, int64_t, int64_t>;
  Simplex simplex(graph);
  simplex.upperMap(capacity).costMap(cost);
  if (simplex.run() != Simplex::OPTIMAL) throw std::runtime_error("LEMON found no optimum");
  return -simplex.totalCost<int64_t>();
}

}  // namespace preserve::test
