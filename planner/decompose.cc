// SPDX-License-Identifier: Apache-2.0
#include "planner/decompose.h"

#include <algorithm>
#include <deque>
#include <tuple>

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
  explicit SliceCursor(const Consumer& consumer) : consumer_(consumer) {}

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
  const Consumer& consumer_;
  size_t slice_ = 0;
  int64_t used_ = 0;
};

class Decomposition {
 public:
  Decomposition(const FoldedStep& step, const PlanProblem& problem, const FlowSolution& solution)
      : step_(step), problem_(problem), solution_(solution), windows_(problem.windows.size()) {
    cursors_.reserve(problem.consumers.size());
    for (const Consumer& consumer : problem.consumers) cursors_.emplace_back(consumer);
  }

  // Some edge holds nothing (solve_flow() sees to it): the walk starts behind it with an empty
  // queue, and every block has left when it gets there again.
  std::vector<PlannedWindow> run() {
    const FlowProblem& flow = problem_.flow;
    const size_t nodes = flow.hold.size();
    const auto empty = std::find(solution_.held.begin(), solution_.held.end(), 0);
    const size_t first =
        nodes == 0 ? 0 : (static_cast<size_t>(empty - solution_.held.begin()) + 1) % nodes;
    const auto at = [](const auto& items, size_t node) {
      return static_cast<size_t>(std::lower_bound(items.begin(), items.end(), node,
                                                  [](const auto& item, size_t value) {
                                                    return static_cast<size_t>(item.node) < value;
                                                  }) -
                                 items.begin());
    };
    size_t supply = at(flow.supplies, first), demand = at(flow.demands, first);
    for (size_t walked = 0; walked < nodes; ++walked) {
      const size_t node = (first + walked) % nodes;
      if (node == 0) supply = demand = 0;
      for (;
           supply < flow.supplies.size() && static_cast<size_t>(flow.supplies[supply].node) == node;
           ++supply) {
        if (solution_.supplied[supply] > 0) queue_.push_back({supply, solution_.supplied[supply]});
      }
      for (; demand < flow.demands.size() && static_cast<size_t>(flow.demands[demand].node) == node;
           ++demand) {
        consume(demand);
      }
    }
    return finish();
  }

 private:
  struct Fetched {
    size_t window;
    int64_t blocks;
  };

  void consume(size_t demand) {
    const auto index = static_cast<size_t>(problem_.demand_consumer[demand]);
    const double saved_per_block_ns = price_to_ns(problem_.flow.demands[demand].profit);
    for (int64_t left = solution_.consumed[demand]; left > 0;) {
      Fetched& oldest = queue_.front();
      const Slice part = cursors_[index].take(std::min(left, oldest.blocks));
      add(oldest.window, problem_.consumers[index].ordinal, part,
          saved_per_block_ns * static_cast<double>(part.blocks));
      left -= part.blocks;
      oldest.blocks -= part.blocks;
      if (oldest.blocks == 0) queue_.pop_front();
    }
  }

  void add(size_t window, int32_t consumer, const Slice& part, double saved_ns) {
    std::vector<PlannedPrefetch>& prefetches = windows_[window].prefetches;
    const std::string& tensor = step_.tensors[static_cast<size_t>(part.tensor)].name;
    const int64_t length = part.blocks * kBlockBytes;
    windows_[window].used_bytes += length;
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
    prefetch.consumer = step_.ops[static_cast<size_t>(consumer)].name;
    prefetch.offset_bytes = part.offset_bytes;
    prefetch.length_bytes = length;
    prefetch.predicted_saved_ns = saved_ns;
    prefetch.next_step = consumer <= problem_.windows[window].ordinal;
    prefetches.push_back(std::move(prefetch));
  }

  // Used up: the window limits. Something left although bytes would still pay: the cache does.
  std::string what_binds(size_t window, const std::vector<uint8_t>& blocked) const {
    const FlowSupply& supply = problem_.flow.supplies[window];
    const int64_t price = solution_.price[static_cast<size_t>(supply.node)];
    if (price > supply.cost) return "window";
    if (solution_.supplied[window] == 0 && supply.capacity == 0) return "window";
    if (blocked[static_cast<size_t>(supply.node)]) return "cache";
    return problem_.consumers.empty() ? "none" : "candidates";
  }

  // Nodes that see, before the next empty-handed stretch ends, an edge whose room is used up and
  // behind which a block is worth more than here.
  std::vector<uint8_t> nodes_behind_full_edges() const {
    const size_t nodes = problem_.flow.hold.size();
    std::vector<uint8_t> blocked(nodes, 0);
    for (size_t walked = 2 * nodes; walked-- > 0;) {
      const size_t edge = walked % nodes, next = (edge + 1) % nodes;
      const bool full = solution_.held[edge] == problem_.flow.hold[edge];
      if (full) {
        blocked[edge] = solution_.price[next] > solution_.price[edge];
      } else {
        blocked[edge] = blocked[next];
      }
    }
    return blocked;
  }

  std::vector<PlannedWindow> finish() {
    if (!queue_.empty()) throw internal_error("a fetched block was never read");
    const std::vector<uint8_t> blocked = nodes_behind_full_edges();
    for (size_t i = 0; i < windows_.size(); ++i) {
      const Window& window = problem_.windows[i];
      const FlowSupply& supply = problem_.flow.supplies[i];
      const int64_t price = solution_.price[static_cast<size_t>(supply.node)];
      windows_[i].ordinal = window.ordinal;
      windows_[i].name = step_.ops[static_cast<size_t>(window.ordinal)].name;
      windows_[i].usable_ns = window.usable_ns;
      windows_[i].capacity_bytes = window.capacity_bytes;
      windows_[i].shadow_price_ns_per_mib = per_mib(std::max<int64_t>(0, price - supply.cost));
      windows_[i].binds = what_binds(i, blocked);
    }
    return std::move(windows_);
  }

  const FoldedStep& step_;
  const PlanProblem& problem_;
  const FlowSolution& solution_;
  std::vector<PlannedWindow> windows_;
  std::vector<SliceCursor> cursors_;
  std::deque<Fetched> queue_;
};

void check_each_byte_once(const std::vector<PlannedWindow>& windows) {
  std::vector<const PlannedPrefetch*> all;
  for (const PlannedWindow& window : windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) all.push_back(&prefetch);
  }
  std::sort(all.begin(), all.end(), [](const PlannedPrefetch* a, const PlannedPrefetch* b) {
    return std::tie(a->consumer_ordinal, a->tensor, a->offset_bytes) <
           std::tie(b->consumer_ordinal, b->tensor, b->offset_bytes);
  });
  for (size_t i = 1; i < all.size(); ++i) {
    const PlannedPrefetch& a = *all[i - 1];
    const PlannedPrefetch& b = *all[i];
    if (a.consumer_ordinal == b.consumer_ordinal && a.tensor == b.tensor &&
        b.offset_bytes < a.offset_bytes + a.length_bytes) {
      throw internal_error("the plan fetches byte {} of {} twice for operator {}", b.offset_bytes,
                           b.tensor, b.consumer_ordinal);
    }
  }
}

}  // namespace

std::vector<PlannedWindow> decompose(const FoldedStep& step, const PlanProblem& problem,
                                     const FlowSolution& solution) {
  return Decomposition(step, problem, solution).run();
}

int64_t peak_unread_bytes(const std::vector<PlannedWindow>& windows, size_t op_count,
                          std::vector<int64_t>* unread_bytes) {
  // Bytes of a prefetch are held over the window's own operator and all others up to the consumer.
  std::vector<int64_t> change(op_count + 1, 0);
  for (const PlannedWindow& window : windows) {
    const auto from = static_cast<size_t>(window.ordinal);
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const auto to = static_cast<size_t>(prefetch.consumer_ordinal);
      change[from] += prefetch.length_bytes;
      change[to] -= prefetch.length_bytes;
      if (to <= from) change[0] += prefetch.length_bytes;  // held over the end of the step
    }
  }
  int64_t held = 0, peak = 0;
  for (size_t i = 0; i < op_count; ++i) {
    held += change[i];
    change[i] = held;
    peak = std::max(peak, held);
  }
  change.resize(op_count);
  if (unread_bytes != nullptr) *unread_bytes = std::move(change);
  return peak;
}

void check_decomposition(const FoldedStep& step, const PlanProblem& problem,
                         const FlowSolution& solution, const std::vector<PlannedWindow>& windows) {
  for (size_t i = 0; i < windows.size(); ++i) {
    if (windows[i].used_bytes != solution.supplied[i] * kBlockBytes ||
        windows[i].used_bytes > windows[i].capacity_bytes) {
      throw internal_error(
          "window {} fetches {} bytes, the flow says {} blocks, it has room for {}",
          windows[i].ordinal, windows[i].used_bytes, solution.supplied[i],
          windows[i].capacity_bytes);
    }
  }
  check_each_byte_once(windows);
  std::vector<int64_t> unread;
  peak_unread_bytes(windows, step.ops.size(), &unread);
  for (size_t i = 0; i < unread.size(); ++i) {
    const int64_t room = std::max<int64_t>(0, problem.budget_bytes - problem.traffic_bytes[i]);
    if (unread[i] > room) {
      throw internal_error("{} bytes are held over operator {}, there is room for {}", unread[i], i,
                           room);
    }
  }
}

}  // namespace preserve
