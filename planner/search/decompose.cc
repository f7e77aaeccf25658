// SPDX-License-Identifier: Apache-2.0
#include "planner/search/decompose.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "common/as_index.h"
#include "common/error.h"

namespace preserve {

namespace {

constexpr double kMiB = 1024.0 * 1024.0;

double per_mib(int64_t price) {
  return price_to_ns(price) * kMiB / static_cast<double>(kBlockBytes);
}

// Nodes from which the next edge without spare room leads to a node where a block is worth more.
std::vector<uint8_t> nodes_before_full_edges(const FlowProblem& flow,
                                             const FlowSolution& solution) {
  const size_t nodes = flow.hold.size();
  std::vector<uint8_t> blocked(nodes, 0);
  for (size_t walked = 2 * nodes; walked-- > 0;) {
    const size_t edge = walked % nodes, next = (edge + 1) % nodes;
    const bool full = solution.held[edge] == flow.hold[edge];
    if (full) {
      blocked[edge] = solution.price[next] > solution.price[edge];
    } else {
      blocked[edge] = blocked[next];
    }
  }
  return blocked;
}

class Taker {
 public:
  Taker(const FoldedStep& step, const PlanProblem& problem, const FlowSolution& solution)
      : problem_(problem), solution_(solution), op_count_(static_cast<int64_t>(step.ops.size())) {
    for (const Window& window : problem.windows) {
      result_.windows.push_back(window.ordinal);
      result_.capacity_bytes.push_back(window.capacity_bytes);
    }
    result_.amounts.resize(problem.windows.size());
  }

  // Some edge holds nothing (solve_flow() ensures it): the walk starts after it with an empty
  // queue, and every block has left when it returns to it.
  Decomposition run() {
    const FlowProblem& flow = problem_.flow;
    const size_t nodes = flow.hold.size();
    const auto empty = std::find(solution_.held.begin(), solution_.held.end(), 0);
    const size_t first = nodes == 0 ? 0 : (as_index(empty - solution_.held.begin()) + 1) % nodes;
    const auto at = [](const auto& items, size_t node) {
      return as_index(std::lower_bound(items.begin(), items.end(), node,
                                       [](const auto& item, size_t value) {
                                         return as_index(item.node) < value;
                                       }) -
                      items.begin());
    };
    size_t supply = at(flow.supplies, first), demand = at(flow.demands, first);
    for (size_t walked = 0; walked < nodes; ++walked) {
      const size_t node = (first + walked) % nodes;
      if (node == 0) supply = demand = 0;
      for (; supply < flow.supplies.size() && as_index(flow.supplies[supply].node) == node;
           ++supply) {
        if (solution_.supplied[supply] > 0) queue_.push_back({supply, solution_.supplied[supply]});
      }
      for (; demand < flow.demands.size() && as_index(flow.demands[demand].node) == node;
           ++demand) {
        consume(demand);
      }
    }
    if (!queue_.empty()) throw internal_error("a fetched block was never read");
    for (size_t i = 0; i < result_.amounts.size(); ++i) put_in_order(i);
    check();
    return std::move(result_);
  }

 private:
  struct Fetched {
    size_t supply;
    int64_t blocks;
  };

  void consume(size_t demand) {
    for (int64_t left = solution_.consumed[demand]; left > 0;) {
      Fetched& oldest = queue_.front();
      const int64_t blocks = std::min(left, oldest.blocks);
      add(oldest.supply, problem_.demand_consumer[demand], blocks);
      left -= blocks;
      oldest.blocks -= blocks;
      if (oldest.blocks == 0) queue_.pop_front();
    }
  }

  // Operators from `from` to `to` going forward on the ring, a whole step when they are the same.
  int64_t distance(int32_t from, int32_t to) const {
    return to > from ? to - from : to - from + op_count_;
  }

  int32_t ordinal_of(int32_t consumer) const {
    return problem_.consumers[as_index(consumer)].ordinal;
  }

  void add(size_t supply, int32_t consumer, int64_t blocks) {
    const auto window = as_index(problem_.supply_window[supply]);
    const int32_t opened = problem_.windows[window].ordinal, arrives = problem_.supply_op[supply];
    const int64_t after = arrives == opened ? 0 : distance(opened, arrives);
    if (after + distance(arrives, ordinal_of(consumer)) > op_count_) {
      result_.dropped_blocks += blocks;
      return;
    }
    holdings_.push_back({arrives, ordinal_of(consumer), blocks * kBlockBytes});
    result_.amounts[window].push_back({consumer, blocks});
  }

  // By the order of reading, each consumer once: the walk may have begun in the middle of what the
  // window fetches.
  void put_in_order(size_t window) {
    WindowShares& shares = result_.amounts[window];
    const auto place = [&](const Share& share) {
      return distance(result_.windows[window], ordinal_of(share.consumer));
    };
    std::stable_sort(shares.begin(), shares.end(),
                     [&](const Share& a, const Share& b) { return place(a) < place(b); });
    size_t kept = 0;
    for (const Share& share : shares) {
      if (kept > 0 && shares[kept - 1].consumer == share.consumer) {
        shares[kept - 1].blocks += share.blocks;
      } else {
        shares[kept++] = share;
      }
    }
    shares.resize(kept);
  }

  void check() const {
    int64_t left = -result_.dropped_blocks;
    for (const int64_t blocks : solution_.supplied) left += blocks;
    std::vector<int64_t> unread(problem_.consumers.size(), 0);
    for (size_t i = 0; i < unread.size(); ++i) unread[i] = problem_.consumers[i].blocks;
    for (size_t i = 0; i < result_.amounts.size(); ++i) {
      int64_t used = 0;
      for (const Share& share : result_.amounts[i]) {
        used += share.blocks;
        if ((unread[as_index(share.consumer)] -= share.blocks) < 0) {
          throw internal_error("the plan fetches bytes twice for operator {}",
                               ordinal_of(share.consumer));
        }
      }
      left -= used;
      if (used * kBlockBytes > result_.capacity_bytes[i]) {
        throw internal_error("window {} fetches {} bytes and has room for {}", result_.windows[i],
                             used * kBlockBytes, result_.capacity_bytes[i]);
      }
    }
    if (left != 0) throw internal_error("{} blocks of the flow are not in the plan", left);
    const std::vector<int64_t> held = held_bytes(holdings_, as_index(op_count_));
    for (size_t i = 0; i < held.size(); ++i) {
      const int64_t room = std::max<int64_t>(0, problem_.room_bytes[i]);
      if (held[i] > room) {
        throw internal_error("{} bytes are held over operator {}, there is room for {}", held[i], i,
                             room);
      }
    }
  }

  const PlanProblem& problem_;
  const FlowSolution& solution_;
  int64_t op_count_;
  std::deque<Fetched> queue_;
  std::vector<Holding> holdings_;
  Decomposition result_;
};

}  // namespace

SolvedProblem solve(PlanProblem problem) {
  SolvedProblem result;
  result.problem = std::move(problem);
  result.optimum = solve_flow(result.problem.flow);
  return result;
}

Decomposition decompose(const FoldedStep& step, const SolvedProblem& solved) {
  return Taker(step, solved.problem, solved.optimum).run();
}

std::vector<WindowPrice> window_prices(const PlanProblem& problem, const FlowSolution& solution) {
  const std::vector<uint8_t> blocked = nodes_before_full_edges(problem.flow, solution);
  const auto price_above_cost = [&](int32_t index) {
    const FlowSupply& supply = problem.flow.supplies[as_index(index)];
    return std::max<int64_t>(0, solution.price[as_index(supply.node)] - supply.cost);
  };
  // A used-up window limits itself. Unused capacity although bytes would still pay: the cache
  // limits.
  const auto what_binds = [&](const Window& window) {
    int64_t capacity = 0;
    bool cache = false;
    for (const int32_t index : window.supplies) {
      const FlowSupply& supply = problem.flow.supplies[as_index(index)];
      if (price_above_cost(index) > 0) return "window";
      capacity += supply.capacity;
      cache = cache || blocked[as_index(supply.node)];
    }
    if (capacity == 0) return "window";
    if (cache) return "cache";
    return problem.consumers.empty() ? "none" : "candidates";
  };
  std::vector<WindowPrice> prices;
  prices.reserve(problem.windows.size());
  for (const Window& window : problem.windows) {
    prices.push_back({per_mib(price_above_cost(window.supplies.front())), what_binds(window)});
  }
  return prices;
}

std::vector<int64_t> held_bytes(const std::vector<Holding>& holdings, size_t op_count) {
  std::vector<int64_t> held(op_count, 0);
  if (op_count == 0) return held;
  for (const Holding& holding : holdings) {
    held[as_index(holding.from)] += holding.bytes;
    held[as_index(holding.to)] -= holding.bytes;
    if (holding.to <= holding.from) held[0] += holding.bytes;
  }
  for (size_t i = 1; i < op_count; ++i) held[i] += held[i - 1];
  return held;
}

int64_t peak_bytes(const std::vector<Holding>& holdings, size_t op_count) {
  const std::vector<int64_t> held = held_bytes(holdings, op_count);
  return held.empty() ? 0 : *std::max_element(held.begin(), held.end());
}

std::vector<Holding> holdings_of(const std::vector<PlannedWindow>& windows) {
  std::vector<Holding> holdings;
  for (const PlannedWindow& window : windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      holdings.push_back({window.ordinal, prefetch.consumer_ordinal, prefetch.length_bytes});
    }
  }
  return holdings;
}

bool fetch_alike(const Decomposition& a, const Decomposition& b) {
  const auto next_used = [](const Decomposition& plan, size_t i) {
    while (i < plan.amounts.size() && plan.amounts[i].empty()) ++i;
    return i;
  };
  size_t i = next_used(a, 0), j = next_used(b, 0);
  for (; i < a.windows.size() && j < b.windows.size();
       i = next_used(a, i + 1), j = next_used(b, j + 1)) {
    if (a.windows[i] != b.windows[j] || a.amounts[i] != b.amounts[j]) return false;
  }
  return i == a.windows.size() && j == b.windows.size();
}

bool same_prefetches(const std::vector<PlannedWindow>& a, const std::vector<PlannedWindow>& b) {
  const auto orders = [](const std::vector<PlannedWindow>& windows) {
    std::vector<std::pair<int32_t, const PlannedPrefetch*>> all;
    for (const PlannedWindow& window : windows) {
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        all.emplace_back(window.ordinal, &prefetch);
      }
    }
    return all;
  };
  const auto of_a = orders(a), of_b = orders(b);
  return std::equal(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && x.second->tensor == y.second->tensor &&
                             x.second->consumer_ordinal == y.second->consumer_ordinal &&
                             x.second->offset_bytes == y.second->offset_bytes &&
                             x.second->length_bytes == y.second->length_bytes;
                    });
}

}  // namespace preserve
