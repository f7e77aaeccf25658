// SPDX-License-Identifier: Apache-2.0
// The flow solver against LEMON, Boost.Graph, and exhaustive search.
#include "planner/flow/flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/planner/flow/flow_oracle.h"
#include "tests/planner/flow/random_flow.h"

namespace preserve {
namespace {

using test::lemon_profit;
using test::random_flow;
using test::successive_paths_profit;

// Tries every amount of every supply and demand and every wrap; only for tiny rings.
int64_t best_by_trying(const FlowProblem& problem) {
  const size_t nodes = problem.hold.size();
  int64_t best = 0;
  std::vector<int64_t> balance(nodes, 0);
  const auto try_wraps = [&](int64_t profit) {
    for (int64_t wrap = 0; wrap <= problem.hold.back(); ++wrap) {
      int64_t held = wrap;
      bool feasible = true;
      for (size_t i = 0; i < nodes && feasible; ++i) {
        held += balance[i];
        feasible = held >= 0 && held <= problem.hold[i];
      }
      if (feasible && held == wrap) best = std::max(best, profit);
    }
  };
  const std::function<void(size_t, int64_t)> demand = [&](size_t i, int64_t profit) {
    if (i == problem.demands.size()) return try_wraps(profit);
    const FlowDemand& d = problem.demands[i];
    for (int64_t y = 0; y <= d.capacity; ++y) {
      balance[static_cast<size_t>(d.node)] -= y;
      demand(i + 1, profit + y * d.profit);
      balance[static_cast<size_t>(d.node)] += y;
    }
  };
  const std::function<void(size_t, int64_t)> supply = [&](size_t i, int64_t profit) {
    if (i == problem.supplies.size()) return demand(0, profit);
    const FlowSupply& s = problem.supplies[i];
    for (int64_t x = 0; x <= s.capacity; ++x) {
      balance[static_cast<size_t>(s.node)] += x;
      supply(i + 1, profit - x * s.cost);
      balance[static_cast<size_t>(s.node)] -= x;
    }
  };
  supply(0, 0);
  return best;
}

TEST(Flow, AgreesWithTryingEverything) {
  int with_profit = 0, over_the_wrap = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const FlowProblem problem = random_flow(seed, 3, 2, 5);
    const FlowSolution solution = solve_flow(problem);
    ASSERT_EQ(solution.profit, best_by_trying(problem)) << "seed " << seed;
    with_profit += solution.profit > 0;
    over_the_wrap += solution.held.back() > 0;
  }
  EXPECT_GT(with_profit, 200);  // otherwise the instances test nothing
  EXPECT_GT(over_the_wrap, 50);
}

TEST(Flow, HugePricesDoNotOverflow) {
  const int64_t huge = int64_t{1} << 58;
  const FlowProblem problem{{9, 9, 9}, {{0, 1'000'000, huge}, {2, 4, 1}}, {{1, 1'000'000, 3}}};
  EXPECT_EQ(solve_flow(problem).profit, 4 * 2);
}

TEST(Flow, AgreesWithNetworkSimplexAndSuccessiveShortestPaths) {
  const auto agree = [](const char* oracle, auto profit, uint64_t seeds, auto... limits) {
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      const FlowProblem problem = random_flow(seed, limits...);
      ASSERT_EQ(solve_flow(problem).profit, profit(problem)) << oracle << ", seed " << seed;
    }
  };
  agree("network simplex", lemon_profit, 2500, 40, 1000, 100000);
  agree("network simplex on a large ring", lemon_profit, 20, 3000, 1 << 20, 1 << 30);
  agree("successive shortest paths", successive_paths_profit, 600, 25, 50, 1000);
}

TEST(Flow, SomeEdgeIsEmptyAndEveryRandomPlanCarriesItsProof) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const FlowProblem problem = random_flow(seed, 30, 100, 1000);
    const FlowSolution solution = solve_flow(problem);
    EXPECT_EQ(*std::min_element(solution.held.begin(), solution.held.end()), 0);
    EXPECT_EQ(why_not_optimal(problem, solution), "");
  }
}

TEST(Flow, TheProofRejectsAWorsePlan) {
  // Two demands, room for one: taking the poorer one is feasible but not optimal.
  const FlowProblem problem{{5, 5, 0}, {{0, 5, 1}}, {{1, 5, 10}, {2, 5, 20}}};
  FlowSolution solution = solve_flow(problem);
  EXPECT_EQ(solution.profit, 5 * 20 - 5 * 1);
  EXPECT_EQ(why_not_optimal(problem, solution), "");
  solution.consumed = {5, 0};
  solution.held = {5, 0, 0};
  solution.profit = 5 * 10 - 5 * 1;
  EXPECT_NE(why_not_optimal(problem, solution), "");
  solution.profit += 1;
  EXPECT_THAT(why_not_optimal(problem, solution), testing::HasSubstr("profit"));
}

TEST(Flow, CarriesOverTheWrapEdge) {
  // The only supply comes after the only demand: the blocks serve the next step.
  const FlowProblem problem{{4, 9, 3}, {{2, 10, 0}}, {{0, 10, 7}}};
  const FlowSolution solution = solve_flow(problem);
  EXPECT_EQ(solution.profit, 3 * 7);
  EXPECT_EQ(solution.held, (std::vector<int64_t>{0, 0, 3}));
}

TEST(Flow, TheSupplyPriceIsWhatOneMoreBlockEarns) {
  int positive = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    FlowProblem problem = random_flow(seed, 12, 20, 100);
    const FlowSolution before = solve_flow(problem);
    for (size_t i = 0; i < problem.supplies.size(); ++i) {
      FlowSupply& supply = problem.supplies[i];
      const int64_t worth =
          std::max<int64_t>(0, before.price[static_cast<size_t>(supply.node)] - supply.cost);
      ++supply.capacity;
      ASSERT_EQ(solve_flow(problem).profit - before.profit, worth) << "seed " << seed;
      --supply.capacity;
      positive += worth > 0;
    }
  }
  EXPECT_GT(positive, 50);  // otherwise the instances test nothing
}

TEST(Flow, RefusesProblemsThatBreakItsContract) {
  EXPECT_ANY_THROW(solve_flow({{1, -1}, {}, {}}));
  EXPECT_ANY_THROW(solve_flow({{1, 1}, {{2, 1, 0}}, {}}));
  EXPECT_ANY_THROW(solve_flow({{1, 1}, {{1, 1, 0}, {0, 1, 0}}, {}}));
  EXPECT_ANY_THROW(solve_flow({{1, 1}, {}, {{0, int64_t{1} << 40, int64_t{1} << 40}}}));
  EXPECT_EQ(solve_flow({}).profit, 0);
}

}  // namespace
}  // namespace preserve
