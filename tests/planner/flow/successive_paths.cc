// SPDX-License-Identifier: Apache-2.0
// The flow problem as a network in Boost.Graph, solved by its successive shortest paths (Ahuja,
// Magnanti, Orlin 1993, ch. 9.7). Quadratic.
//
// Boost computes a minimum-cost MAXIMUM flow over non-negative costs. A profit p becomes the cost
// P - p, P the largest profit, and a bypass from source to sink at cost P takes every block that is
// better not fetched. The origin feeds the source with exactly the total supply, so the maximum
// flow is always that, and fetched and bypassed blocks compete for it.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/successive_shortest_path_nonnegative_weights.hpp>

#include "tests/planner/flow/flow_oracle.h"

namespace preserve::test {

namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using Network = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<
        boost::edge_capacity_t, int64_t,
        boost::property<boost::edge_residual_capacity_t, int64_t,
                        boost::property<boost::edge_reverse_t, Traits::edge_descriptor,
                                        boost::property<boost::edge_weight_t, int64_t>>>>>;

class ReferenceNetwork {
 public:
  explicit ReferenceNetwork(const FlowProblem& problem)
      : nodes_(problem.hold.size()), network_(nodes_ + 3) {
    int64_t largest = 0, supply_total = 0;
    for (const FlowDemand& demand : problem.demands) largest = std::max(largest, demand.profit);
    for (const FlowSupply& supply : problem.supplies) {
      supplies_.push_back(add_arc(source(), supply.node, supply.capacity, supply.cost));
      supply_total += supply.capacity;
    }
    for (const FlowDemand& demand : problem.demands) {
      demands_.push_back(add_arc(demand.node, sink(), demand.capacity, largest - demand.profit));
    }
    for (size_t node = 0; node < nodes_; ++node) {
      add_arc(node, (node + 1) % nodes_, problem.hold[node], 0);
    }
    add_arc(source(), sink(), supply_total, largest);
    add_arc(origin(), source(), supply_total, 0);
  }

  int64_t profit(const FlowProblem& problem) {
    boost::successive_shortest_path_nonnegative_weights(network_, origin(), sink());
    int64_t profit = 0;
    for (size_t i = 0; i < demands_.size(); ++i) {
      profit += problem.demands[i].profit * flow(demands_[i]);
    }
    for (size_t i = 0; i < supplies_.size(); ++i) {
      profit -= problem.supplies[i].cost * flow(supplies_[i]);
    }
    return profit;
  }

 private:
  size_t source() const { return nodes_; }
  size_t sink() const { return nodes_ + 1; }
  size_t origin() const { return nodes_ + 2; }

  template <typename From, typename To>
  Traits::edge_descriptor add_arc(From from, To to, int64_t capacity, int64_t cost) {
    const auto a = static_cast<size_t>(from), b = static_cast<size_t>(to);
    const auto arc = boost::add_edge(a, b, network_).first;
    const auto back = boost::add_edge(b, a, network_).first;
    boost::put(boost::edge_capacity, network_, arc, capacity);
    boost::put(boost::edge_capacity, network_, back, 0);
    boost::put(boost::edge_weight, network_, arc, cost);
    boost::put(boost::edge_weight, network_, back, -cost);
    boost::put(boost::edge_reverse, network_, arc, back);
    boost::put(boost::edge_reverse, network_, back, arc);
    return arc;
  }

  int64_t flow(const Traits::edge_descriptor& arc) const {
    return boost::get(boost::edge_capacity, network_, arc) -
           boost::get(boost::edge_residual_capacity, network_, arc);
  }

  size_t nodes_;
  Network network_;
  std::vector<Traits::edge_descriptor> supplies_, demands_;
};

}  // namespace

int64_t successive_paths_profit(const FlowProblem& problem) {
  return problem.hold.empty() ? 0 : ReferenceNetwork(problem).profit(problem);
}

}  // namespace preserve::test
