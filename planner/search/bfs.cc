// SPDX-License-Identifier: Apache-2.0
#include "planner/search/bfs.h"

#include <algorithm>

#include "common/as_index.h"
#include "planner/problem/graph.h"

namespace preserve {

namespace {

// Bytes fetched and unread at the opening of each window, where they are most. On a step of one
// stream a search never passes the next window; with several, reads of another stream may lie
// beyond it.
class HeldBytes {
 public:
  HeldBytes(const PlanProblem& problem, size_t op_count)
      : problem_(problem),
        op_count_(static_cast<int64_t>(op_count)),
        held_(problem.windows.size()) {}

  // Holds `length` more from the opening of window `from` until `consumer` reads; false: no room.
  bool take(size_t from, int32_t consumer, int64_t length) {
    const int64_t until = distance(from, consumer);
    std::vector<size_t> crossed{from};
    for (size_t i = (from + 1) % held_.size(); i != from; i = (i + 1) % held_.size()) {
      if (distance(from, problem_.windows[i].ordinal) >= until) break;
      crossed.push_back(i);
    }
    for (const size_t i : crossed) {
      if (held_[i] + length > problem_.budget_bytes) return false;
    }
    for (const size_t i : crossed) held_[i] += length;
    return true;
  }

 private:
  int64_t distance(size_t from, int32_t to) const {
    const int64_t ahead = to - problem_.windows[from].ordinal;
    return ahead > 0 ? ahead : ahead + op_count_;
  }

  const PlanProblem& problem_;
  int64_t op_count_;
  std::vector<int64_t> held_;
};

}  // namespace

std::vector<PlannedWindow> plan_bfs(const FoldedStep& step, const PlanProblem& problem) {
  const OperatorGraph graph = operator_graph(step);
  std::vector<uint8_t> is_window(step.ops.size(), 0), fetched_for(step.ops.size(), 0);
  std::vector<const PlanConsumer*> consumer_of(step.ops.size(), nullptr);
  for (const Window& window : problem.windows) is_window[as_index(window.ordinal)] = 1;
  for (const PlanConsumer& consumer : problem.consumers) {
    consumer_of[as_index(consumer.ordinal)] = &consumer;
  }
  std::vector<PlannedWindow> windows;
  HeldBytes held(problem, step.ops.size());
  for (const Window& from : problem.windows) {
    PlannedWindow window;
    window.ordinal = from.ordinal;
    window.name = step.ops[as_index(from.ordinal)].name;
    window.usable_ns = from.usable_ns;
    window.capacity_bytes = from.capacity_bytes;
    window.binds = "none";
    bool full = false;
    for (const int32_t ordinal : operators_before_boundary(graph, from.ordinal, is_window)) {
      const auto op = as_index(ordinal);
      if (full || consumer_of[op] == nullptr || fetched_for[op]) continue;
      for (const Slice& slice : consumer_of[op]->slices) {
        const int64_t length = slice.blocks * kBlockBytes;
        if (window.used_bytes + length >= problem.budget_bytes ||
            !held.take(windows.size(), ordinal, length)) {
          window.binds = "cache";
          full = true;
          break;
        }
        window.used_bytes += length;
        PlannedPrefetch prefetch;
        prefetch.tensor = step.tensors[as_index(slice.tensor)].name;
        prefetch.consumer_ordinal = ordinal;
        prefetch.consumer = step.ops[op].name;
        prefetch.offset_bytes = slice.offset_bytes;
        prefetch.length_bytes = length;
        prefetch.next_step = ordinal <= from.ordinal;
        window.prefetches.push_back(std::move(prefetch));
        fetched_for[op] = 1;  // by an earlier window of another branch: each use is served once
      }
    }
    windows.push_back(std::move(window));
  }
  return windows;
}

}  // namespace preserve
