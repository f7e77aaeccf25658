// SPDX-License-Identifier: Apache-2.0
#include "planner/search/decompose.h"

#include <algorithm>
#include <deque>
#include <tuple>
#include <utility>

#include "common/as_index.h"
#include "common/error.h"

namespace preserve {

namespace {

constexpr double kMiB = 1024.0 * 1024.0;

double per_mib(int64_t price) {
  return price_to_ns(price) * kMiB / static_cast<double>(kBlockBytes);
}

// Hands out the slices of one consumer from the head on.
class SliceCursor {
 public:
  explicit SliceCursor(const PlanConsumer& consumer) : consumer_(consumer) {}

  // Up to `blocks` from one slice; at least one.
  Slice take(int64_t blocks) {
    while (used_ == consumer_.slices[slice_].blocks) {
      ++slice_;
      used_ = 0;
    }
    const Slice& slice = consumer_.slices[slice_];
    const int64_t taken = std::min(blocks, slice.blocks - used_);
    const Slice part{slice.tensor, slice.offset_bytes + used_ * kBlockBytes, taken};
    used_ += taken;
    return part;
  }

 private:
  const PlanConsumer& consumer_;
  size_t slice_ = 0;
  int64_t used_ = 0;
};

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
      : step_(step), problem_(problem), solution_(solution), windows_(problem.windows.size()) {
    cursors_.reserve(problem.consumers.size());
    for (const PlanConsumer& consumer : problem.consumers) cursors_.emplace_back(consumer);
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
    return finish();
  }

 private:
  struct Fetched {
    size_t supply;
    int64_t blocks;
  };

  void consume(size_t demand) {
    const auto index = as_index(problem_.demand_consumer[demand]);
    const double saved_per_block_ns = price_to_ns(problem_.flow.demands[demand].profit);
    for (int64_t left = solution_.consumed[demand]; left > 0;) {
      Fetched& oldest = queue_.front();
      const Slice part = cursors_[index].take(std::min(left, oldest.blocks));
      add(oldest.supply, problem_.consumers[index].ordinal, part,
          saved_per_block_ns * static_cast<double>(part.blocks));
      left -= part.blocks;
      oldest.blocks -= part.blocks;
      if (oldest.blocks == 0) queue_.pop_front();
    }
  }

  // Operators from `from` to `to` going forward on the ring, a whole step when they are the same.
  int64_t distance(int32_t from, int32_t to) const {
    const auto count = static_cast<int64_t>(step_.ops.size());
    return to > from ? to - from : to - from + count;
  }

  void add(size_t supply, int32_t consumer, const Slice& part, double saved_ns) {
    const auto window = as_index(problem_.supply_window[supply]);
    const int32_t opened = problem_.windows[window].ordinal, arrives = problem_.supply_op[supply];
    const int64_t after = arrives == opened ? 0 : distance(opened, arrives);
    if (after + distance(arrives, consumer) > static_cast<int64_t>(step_.ops.size())) {
      result_.dropped_blocks += part.blocks;
      return;
    }
    const int64_t length = part.blocks * kBlockBytes;
    result_.holdings.push_back({arrives, consumer, length});
    windows_[window].used_bytes += length;
    const std::string& tensor = step_.tensors[as_index(part.tensor)].name;
    std::vector<PlannedPrefetch>& prefetches = windows_[window].prefetches;
    if (!prefetches.empty()) {
      PlannedPrefetch& last = prefetches.back();
      if (last.consumer_ordinal == consumer && last.tensor == tensor &&
          last.offset_bytes + last.length_bytes == part.offset_bytes) {
        last.length_bytes += length;
        last.predicted_saved_ns += saved_ns;
        return;
      }
    }
    PlannedPrefetch prefetch;
    prefetch.tensor = tensor;
    prefetch.consumer_ordinal = consumer;
    prefetch.consumer = step_.ops[as_index(consumer)].name;
    prefetch.offset_bytes = part.offset_bytes;
    prefetch.length_bytes = length;
    prefetch.predicted_saved_ns = saved_ns;
    prefetch.next_step = consumer <= opened;
    prefetches.push_back(std::move(prefetch));
  }

  Decomposition finish() {
    if (!queue_.empty()) throw internal_error("a fetched block was never read");
    const std::vector<WindowPrice> prices = window_prices(problem_, solution_);
    for (size_t i = 0; i < windows_.size(); ++i) {
      const Window& window = problem_.windows[i];
      // The walk may have begun in the middle of what this window fetches.
      std::stable_sort(windows_[i].prefetches.begin(), windows_[i].prefetches.end(),
                       [&](const PlannedPrefetch& a, const PlannedPrefetch& b) {
                         return distance(window.ordinal, a.consumer_ordinal) <
                                distance(window.ordinal, b.consumer_ordinal);
                       });
      windows_[i].ordinal = window.ordinal;
      windows_[i].name = step_.ops[as_index(window.ordinal)].name;
      windows_[i].usable_ns = window.usable_ns;
      windows_[i].capacity_bytes = window.capacity_bytes;
      windows_[i].shadow_price_ns_per_mib = prices[i].ns_per_mib;
      windows_[i].binds = prices[i].binds;
    }
    result_.windows = std::move(windows_);
    return std::move(result_);
  }

  const FoldedStep& step_;
  const PlanProblem& problem_;
  const FlowSolution& solution_;
  std::vector<PlannedWindow> windows_;
  std::vector<SliceCursor> cursors_;
  std::deque<Fetched> queue_;
  Decomposition result_;
};

void check_each_byte_once(const std::vector<PlannedWindow>& windows) {
  std::vector<std::pair<int32_t, const PlannedPrefetch*>> all;  // by consumer
  for (const PlannedWindow& window : windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      all.emplace_back(prefetch.consumer_ordinal, &prefetch);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    return std::tie(a.second->tensor, a.second->offset_bytes) <
           std::tie(b.second->tensor, b.second->offset_bytes);
  });
  for (size_t i = 1; i < all.size(); ++i) {
    const PlannedPrefetch& a = *all[i - 1].second;
    const PlannedPrefetch& b = *all[i].second;
    if (a.consumer_ordinal == b.consumer_ordinal && a.tensor == b.tensor &&
        b.offset_bytes < a.offset_bytes + a.length_bytes) {
      throw internal_error("the plan fetches byte {} of {} twice for operator {}", b.offset_bytes,
                           b.tensor, b.consumer_ordinal);
    }
  }
}

void check_decomposition(const FoldedStep& step, const PlanProblem& problem,
                         const FlowSolution& solution, const Decomposition& result) {
  int64_t supplied = 0, planned = 0;
  for (const int64_t blocks : solution.supplied) supplied += blocks;
  for (const PlannedWindow& window : result.windows) {
    planned += window.used_bytes;
    if (window.used_bytes > window.capacity_bytes) {
      throw internal_error("window {} fetches {} bytes and has room for {}", window.ordinal,
                           window.used_bytes, window.capacity_bytes);
    }
  }
  if (planned != (supplied - result.dropped_blocks) * kBlockBytes) {
    throw internal_error("the plan fetches {} bytes, the flow says {} blocks", planned, supplied);
  }
  check_each_byte_once(result.windows);
  const std::vector<int64_t> held = held_bytes(result.holdings, step.ops.size());
  for (size_t i = 0; i < held.size(); ++i) {
    const int64_t room = std::max<int64_t>(0, problem.budget_bytes - problem.traffic_bytes[i]);
    if (held[i] > room) {
      throw internal_error("{} bytes are held over operator {}, there is room for {}", held[i], i,
                           room);
    }
  }
}

}  // namespace

Decomposition decompose(const FoldedStep& step, const PlanProblem& problem,
                        const FlowSolution& solution) {
  Decomposition result = Taker(step, problem, solution).run();
  check_decomposition(step, problem, solution, result);
  return result;
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
