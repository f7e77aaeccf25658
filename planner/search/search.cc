// SPDX-License-Identifier: Apache-2.0
#include "planner/search/search.h"

#include <algorithm>

#include "common/as_index.h"

namespace preserve {

namespace {

// Each trial solves the flow again; a bound on the work, reached only by very large steps.
constexpr int64_t kMostNodesSolved = 4'000'000;

class Search {
 public:
  Search(const FoldedStep& step, const PlanProblem& problem, const SearchOptions& options)
      : step_(step), problem_(problem), options_(options) {}

  Decomposition run(const FlowSolution& optimum) {
    adopt(optimum);
    drop_all_that_do_not_pay();
    drop_one_by_one();
    remove_small_pieces(plan_.windows, options_.min_prefetch_bytes);
    return std::move(plan_);
  }

 private:
  void adopt(FlowSolution solution) {
    solution_ = std::move(solution);
    plan_ = decompose(step_, problem_, solution_);
  }

  int64_t fixed_cost() const { return options_.window_cost_ns * kPriceScale; }

  int64_t supplied(const FlowSolution& solution, size_t window) const {
    int64_t blocks = 0;
    for (const int32_t i : problem_.windows[window].supplies) {
      blocks += solution.supplied[as_index(i)];
    }
    return blocks;
  }

  // Profit after the fixed costs of the windows in use.
  int64_t worth(const FlowSolution& solution) const {
    int64_t used = 0;
    for (size_t i = 0; i < problem_.windows.size(); ++i) used += supplied(solution, i) > 0;
    return solution.profit - used * fixed_cost();
  }

  double saved_ns(size_t window) const {
    double saved = 0;
    for (const int32_t index : problem_.windows[window].supplies) {
      const auto i = as_index(index);
      saved -= price_to_ns(problem_.flow.supplies[i].cost * solution_.supplied[i]);
    }
    for (const PlannedPrefetch& prefetch : plan_.windows[window].prefetches) {
      saved += prefetch.predicted_saved_ns;
    }
    return saved;
  }

  bool try_without(const std::vector<size_t>& off) {
    const FlowProblem before = problem_.flow;
    for (const size_t window : off) {
      for (const int32_t i : problem_.windows[window].supplies) {
        problem_.flow.supplies[as_index(i)].capacity = 0;
      }
    }
    FlowSolution solution = solve_flow(problem_.flow);
    nodes_solved_ += static_cast<int64_t>(problem_.flow.hold.size()) + 1;
    if (worth(solution) > worth(solution_)) {
      adopt(std::move(solution));
      return true;
    }
    problem_.flow = before;
    return false;
  }

  std::vector<size_t> windows_in_use_by_worth() const {
    std::vector<size_t> order;
    for (size_t i = 0; i < problem_.windows.size(); ++i) {
      if (supplied(solution_, i) > 0) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [this](size_t a, size_t b) { return saved_ns(a) < saved_ns(b); });
    return order;
  }

  void drop_all_that_do_not_pay() {
    if (options_.window_cost_ns == 0) return;
    for (bool improved = true; improved;) {
      std::vector<size_t> off;
      for (const size_t window : windows_in_use_by_worth()) {
        if (saved_ns(window) < static_cast<double>(options_.window_cost_ns)) off.push_back(window);
      }
      improved = !off.empty() && try_without(off);
    }
  }

  void drop_one_by_one() {
    if (options_.window_cost_ns == 0) return;
    for (bool improved = true; improved;) {
      improved = false;
      for (const size_t window : windows_in_use_by_worth()) {
        if (nodes_solved_ > kMostNodesSolved) return;
        // Its blocks may move to others, so even a window that pays may be better off; not one
        // that earns more than all that could replace it saves in fixed cost.
        if (try_without({window})) {
          improved = true;
          break;
        }
      }
    }
  }

  const FoldedStep& step_;
  PlanProblem problem_;
  const SearchOptions& options_;
  FlowSolution solution_;
  Decomposition plan_;
  int64_t nodes_solved_ = 0;
};

}  // namespace

Decomposition search_windows(const FoldedStep& step, const PlanProblem& problem,
                             const FlowSolution& optimum, const SearchOptions& options) {
  return Search(step, problem, options).run(optimum);
}

void remove_small_pieces(std::vector<PlannedWindow>& windows, int64_t min_prefetch_bytes) {
  for (PlannedWindow& window : windows) {
    std::erase_if(window.prefetches, [&](const PlannedPrefetch& prefetch) {
      return prefetch.length_bytes < min_prefetch_bytes;
    });
    window.used_bytes = 0;
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      window.used_bytes += prefetch.length_bytes;
    }
  }
}

PlanProblem scaled_problem(const PlanProblem& problem, double window_factor, double budget_factor) {
  PlanProblem scaled = problem;
  const auto by = [](int64_t value, double factor) {
    return static_cast<int64_t>(static_cast<double>(value) * factor);
  };
  for (FlowSupply& supply : scaled.flow.supplies)
    supply.capacity = by(supply.capacity, window_factor);
  scaled.budget_bytes = by(scaled.budget_bytes, budget_factor);
  for (size_t edge = 0; edge < scaled.flow.hold.size(); ++edge) {
    scaled.flow.hold[edge] =
        std::max<int64_t>(0, scaled.budget_bytes - scaled.edge_traffic_bytes[edge]) / kBlockBytes;
  }
  return scaled;
}

}  // namespace preserve
