// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/node_history.h"

#include <algorithm>
#include <numeric>

namespace preserve::cuda {

NodeHistory::NodeHistory(const Run& run) {
  std::vector<uint32_t> order(run.nodes.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, [&](uint32_t a, uint32_t b) { return run.nodes[a].time_ns < run.nodes[b].time_ns; });
  for (const uint32_t index : order) {
    const Node& node = run.nodes[index];
    // A graph may still run when its node is destroyed, so numbers die when they are given anew.
    if (node.event == NodeEvent::destroyed) continue;
    uint32_t launch = node.launch;
    if (node.event == NodeEvent::cloned) launch = find(node.original, node.time_ns);
    if (node.event == NodeEvent::updated && launch == kNone) continue;
    meanings_[node.node].push_back({node.time_ns, launch});
  }
}

uint32_t NodeHistory::find(uint64_t node, int64_t time_ns) const {
  const auto found = meanings_.find(node);
  if (found == meanings_.end()) return kNone;
  const auto after = std::ranges::upper_bound(found->second, time_ns, {}, &Meaning::time_ns);
  return after == found->second.begin() ? kNone : (after - 1)->launch;
}

}  // namespace preserve::cuda
