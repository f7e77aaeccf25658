// SPDX-License-Identifier: Apache-2.0
#include "planner/bfs.h"

#include <algorithm>

#include "planner/graph.h"

namespace preserve {

std::vector<PlannedWindow> plan_bfs(const FoldedStep& step, const PlanProblem& problem,
                                    const BfsOptions& options) {
  const OperatorGraph graph(step);
  std::vector<uint8_t> is_window(step.ops.size(), 0), fetched_for(step.ops.size(), 0);
  std::vector<const Consumer*> consumer_of(step.ops.size(), nullptr);
  for (const Window& window : problem.windows) is_window[static_cast<size_t>(window.ordinal)] = 1;
  for (const Consumer& consumer : problem.consumers) {
    consumer_of[static_cast<size_t>(consumer.ordinal)] = &consumer;
  }
  std::vector<PlannedWindow> windows;
  int64_t used = 0;
  for (const Window& from : problem.windows) {
    PlannedWindow window;
    window.ordinal = from.ordinal;
    window.name = step.ops[static_cast<size_t>(from.ordinal)].name;
    window.usable_ns = from.usable_ns;
    window.capacity_bytes = from.capacity_bytes;
    window.binds = "none";
    if (options.scope == BfsOptions::Scope::window) used = 0;
    bool full = false;
    for (const int32_t ordinal : graph.breadth_first(from.ordinal, is_window)) {
      const auto op = static_cast<size_t>(ordinal);
      if (full || consumer_of[op] == nullptr || fetched_for[op]) continue;
      for (const Slice& slice : consumer_of[op]->slices) {
        const int64_t length = slice.blocks * kBlockBytes;
        if (used + length >= problem.budget_bytes) {
          window.binds = "cache";
          full = options.full == BfsOptions::Full::stop;
          if (full) break;
          continue;
        }
        used += length;
        window.used_bytes += length;
        PlannedPrefetch prefetch;
        prefetch.tensor = step.tensors[static_cast<size_t>(slice.tensor)].name;
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
