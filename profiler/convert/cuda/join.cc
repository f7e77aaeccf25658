// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/join.h"

#include <algorithm>
#include <tuple>

#include "profiler/convert/cuda/node_history.h"

namespace preserve::cuda {
namespace {

// Calls by correlation id, in order of time. A call of the runtime around a call of the driver has
// an id of its own; records may name either.
class LaunchIndex {
 public:
  explicit LaunchIndex(const GrowingArray<Launch>& launches) {
    entries_.reserve(launches.size());
    for (uint32_t i = 0; i < launches.size(); ++i) {
      const Launch& launch = launches[i];
      if (launch.kind == LaunchKind::node) continue;
      if (launch.correlation != 0) entries_.push_back({launch.correlation, i, launch.time_ns});
      if (launch.outer_correlation != 0 && launch.outer_correlation != launch.correlation) {
        entries_.push_back({launch.outer_correlation, i, launch.time_ns});
      }
    }
    const auto before = [](const Entry& a, const Entry& b) {
      return std::tie(a.correlation, a.time_ns) < std::tie(b.correlation, b.time_ns);
    };
    if (!std::is_sorted(entries_.begin(), entries_.end(), before)) {
      std::sort(entries_.begin(), entries_.end(), before);
    }
  }

  uint32_t find(uint32_t correlation, int64_t start_ns) {
    if (correlation == 0) return kNone;
    const int64_t latest_ns = start_ns + kClockSlackNs;
    // Activities come in the order of their calls, nearly: look after the last hit first.
    if (hint_ >= entries_.size() || entries_[hint_].correlation > correlation) hint_ = 0;
    if (entries_.empty()) return kNone;
    size_t at = hint_;
    for (int step = 0; step < 8 && at < entries_.size() && entries_[at].correlation < correlation;
         ++step) {
      ++at;
    }
    if (at >= entries_.size() || entries_[at].correlation != correlation ||
        (at > 0 && entries_[at - 1].correlation == correlation)) {
      at = static_cast<size_t>(
          std::partition_point(entries_.begin(), entries_.end(),
                               [&](const Entry& e) { return e.correlation < correlation; }) -
          entries_.begin());
    }
    uint32_t found = kNone;
    for (; at < entries_.size() && entries_[at].correlation == correlation; ++at) {
      if (found != kNone && entries_[at].time_ns > latest_ns) break;
      if (entries_[at].time_ns <= latest_ns) {
        found = entries_[at].launch;
        hint_ = at;
      }
    }
    return found;
  }

 private:
  struct Entry {
    uint32_t correlation, launch;
    int64_t time_ns;
  };
  std::vector<Entry> entries_;
  size_t hint_ = 0;
};

bool by_stream_and_start(const Activity& a, const Activity& b) {
  return std::tie(a.stream, a.start_ns, a.end_ns, a.correlation, a.graph_node) <
         std::tie(b.stream, b.start_ns, b.end_ns, b.correlation, b.graph_node);
}

}  // namespace

JoinSummary join(Run& run) {
  JoinSummary summary;
  if (!std::is_sorted(run.activities.begin(), run.activities.end(), by_stream_and_start)) {
    std::sort(run.activities.begin(), run.activities.end(), by_stream_and_start);
  }
  LaunchIndex launches(run.launches);
  const NodeHistory nodes(run);
  for (Activity& activity : run.activities) {
    activity.launch = launches.find(static_cast<uint32_t>(activity.correlation), activity.start_ns);
    // Some releases of CUPTI give launches of graphs the ids of other calls: no call rather than a
    // wrong one.
    if (activity.graph_node != gpu::kNoNode && activity.launch != kNone &&
        run.launches[activity.launch].kind != LaunchKind::graph) {
      activity.launch = kNone;
    }
    if (activity.launch != kNone) ++summary.launched;
    activity.origin = activity.launch;
    if (activity.graph_node == gpu::kNoNode) continue;
    ++summary.graph_nodes;
    activity.origin =
        nodes.find(static_cast<uint64_t>(activity.graph_node), activity.start_ns + kClockSlackNs);
    if (activity.origin != kNone) ++summary.resolved_nodes;
  }
  return summary;
}

}  // namespace preserve::cuda
