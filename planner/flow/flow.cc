// SPDX-License-Identifier: Apache-2.0
#include "planner/flow/flow.h"

#include <algorithm>

#include "common/as_index.h"
#include "common/error.h"
#include "planner/flow/dynamic.h"

namespace preserve {

namespace {

// Any circulation all the way round the ring costs nothing and brings nothing: take it out, so that
// some edge holds 0 and no block stays longer than one step.
void remove_circulation(FlowSolution& solution) {
  const int64_t least = *std::ranges::min_element(solution.held);
  for (int64_t& blocks : solution.held) blocks -= least;
}

// The least prices that complementary slackness allows. Its conditions are bounds from below
// (a supply in use: at least its cost; an unmet demand: at least its profit; never negative) and
// order between neighbours (below an unsaturated edge the price does not rise, above an empty edge
// it may fall). The least solution is the largest bound that reaches each node, and on a ring every
// path that carries a bound runs in one direction, so two sweeps each way find it.
std::vector<int64_t> least_prices(const FlowProblem& problem, const FlowSolution& solution) {
  const size_t nodes = problem.hold.size();
  std::vector<int64_t> bound(nodes, 0);
  for (size_t i = 0; i < problem.supplies.size(); ++i) {
    int64_t& price = bound[as_index(problem.supplies[i].node)];
    if (solution.supplied[i] > 0) price = std::max(price, problem.supplies[i].cost);
  }
  for (size_t i = 0; i < problem.demands.size(); ++i) {
    int64_t& price = bound[as_index(problem.demands[i].node)];
    if (solution.consumed[i] < problem.demands[i].capacity) {
      price = std::max(price, problem.demands[i].profit);
    }
  }
  std::vector<int64_t> forward = bound, backward = bound;
  for (size_t step = 0; step < 2 * nodes; ++step) {
    const size_t edge = step % nodes, next = (edge + 1) % nodes;
    if (solution.held[edge] > 0) forward[next] = std::max(forward[next], forward[edge]);
  }
  for (size_t step = 2 * nodes; step-- > 0;) {
    const size_t edge = step % nodes, next = (edge + 1) % nodes;
    if (solution.held[edge] < problem.hold[edge]) {
      backward[edge] = std::max(backward[edge], backward[next]);
    }
  }
  for (size_t i = 0; i < nodes; ++i) forward[i] = std::max(forward[i], backward[i]);
  return forward;
}

std::string why_not_feasible(const FlowProblem& problem, const FlowSolution& solution) {
  const size_t nodes = problem.hold.size();
  std::vector<int64_t> balance(nodes, 0);
  int64_t profit = 0;
  for (size_t i = 0; i < problem.supplies.size(); ++i) {
    const FlowSupply& supply = problem.supplies[i];
    if (solution.supplied[i] < 0 || solution.supplied[i] > supply.capacity) {
      return fmt::format("supply {} gives {} of {}", i, solution.supplied[i], supply.capacity);
    }
    balance[as_index(supply.node)] += solution.supplied[i];
    profit -= supply.cost * solution.supplied[i];
  }
  for (size_t i = 0; i < problem.demands.size(); ++i) {
    const FlowDemand& demand = problem.demands[i];
    if (solution.consumed[i] < 0 || solution.consumed[i] > demand.capacity) {
      return fmt::format("demand {} takes {} of {}", i, solution.consumed[i], demand.capacity);
    }
    balance[as_index(demand.node)] -= solution.consumed[i];
    profit += demand.profit * solution.consumed[i];
  }
  for (size_t edge = 0; edge < nodes; ++edge) {
    const int64_t held = solution.held[edge];
    if (held < 0 || held > problem.hold[edge]) {
      return fmt::format("edge {} holds {} of {}", edge, held, problem.hold[edge]);
    }
    const int64_t before = solution.held[(edge + nodes - 1) % nodes];
    if (before + balance[edge] != held) return fmt::format("node {} does not balance", edge);
  }
  if (profit != solution.profit) {
    return fmt::format("the profit is {}, not {}", profit, solution.profit);
  }
  return {};
}

}  // namespace

void check_flow_problem(const FlowProblem& problem) {
  const auto nodes = static_cast<int64_t>(problem.hold.size());
  const auto bad_node = [nodes](int64_t node, int64_t previous) {
    return node < 0 || node >= nodes || node < previous;
  };
  constexpr int64_t kLargest = int64_t{1} << 61;  // sums of two stay within int64_t
  for (const int64_t hold : problem.hold) {
    if (hold < 0 || hold > kLargest) throw internal_error("flow: edge capacity {}", hold);
  }
  int64_t previous = 0;
  int64_t total = 0;
  for (const FlowSupply& supply : problem.supplies) {
    if (bad_node(supply.node, previous) || supply.capacity < 0 || supply.cost < 0 ||
        __builtin_add_overflow(total, supply.capacity, &total) || total > kLargest) {
      throw internal_error("flow: bad supply at node {}", supply.node);
    }
    previous = supply.node;
  }
  previous = 0;
  total = 0;
  int64_t profit = 0;
  for (const FlowDemand& demand : problem.demands) {
    int64_t product = 0;
    if (bad_node(demand.node, previous) || demand.capacity < 0 || demand.profit < 0 ||
        __builtin_add_overflow(total, demand.capacity, &total) || total > kLargest ||
        __builtin_mul_overflow(demand.profit, demand.capacity, &product) ||
        __builtin_add_overflow(profit, product, &profit) || profit > kLargest) {
      throw internal_error("flow: bad demand at node {}", demand.node);
    }
    previous = demand.node;
  }
}

std::string why_not_optimal(const FlowProblem& problem, const FlowSolution& solution) {
  if (std::string why = why_not_feasible(problem, solution); !why.empty()) return why;
  const std::vector<int64_t>& price = solution.price;
  for (size_t i = 0; i < problem.supplies.size(); ++i) {
    const FlowSupply& supply = problem.supplies[i];
    const int64_t here = price[as_index(supply.node)];
    if ((solution.supplied[i] > 0 && here < supply.cost) ||
        (solution.supplied[i] < supply.capacity && here > supply.cost)) {
      return fmt::format("supply {}: price {} against cost {}", i, here, supply.cost);
    }
  }
  for (size_t i = 0; i < problem.demands.size(); ++i) {
    const FlowDemand& demand = problem.demands[i];
    const int64_t here = price[as_index(demand.node)];
    if ((solution.consumed[i] > 0 && here > demand.profit) ||
        (solution.consumed[i] < demand.capacity && here < demand.profit)) {
      return fmt::format("demand {}: price {} against profit {}", i, here, demand.profit);
    }
  }
  for (size_t edge = 0; edge < problem.hold.size(); ++edge) {
    const int64_t rise = price[(edge + 1) % price.size()] - price[edge];
    if ((solution.held[edge] > 0 && rise < 0) ||
        (solution.held[edge] < problem.hold[edge] && rise > 0)) {
      return fmt::format("edge {}: price rises by {} at {} of {}", edge, rise, solution.held[edge],
                         problem.hold[edge]);
    }
  }
  return {};
}

FlowSolution solve_flow(const FlowProblem& problem) {
  check_flow_problem(problem);
  if (problem.hold.empty()) return {};
  FlowSolution solution = solve_flow_dynamic(problem);
  remove_circulation(solution);
  solution.price = least_prices(problem, solution);
  if (const std::string why = why_not_optimal(problem, solution); !why.empty()) {
    throw internal_error("the flow solver returned a plan that is not optimal: {}", why);
  }
  return solution;
}

}  // namespace preserve
