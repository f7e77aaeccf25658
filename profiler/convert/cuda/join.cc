// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/join.h"

#include <tuple>

#include "profiler/convert/cuda/node_history.h"
#include "profiler/gpu/launch_join.h"

namespace preserve::cuda {
namespace {

struct ByStreamAndStart {
  bool operator()(const Activity& a, const Activity& b) const {
    return std::tie(a.stream, a.start_ns, a.end_ns, a.correlation, a.graph_node) <
           std::tie(b.stream, b.start_ns, b.end_ns, b.correlation, b.graph_node);
  }
};

void sort(GrowingArray<Activity>& activities) {
  bool sorted = true;
  for (size_t i = 1; sorted && i < activities.size(); ++i) {
    const Activity before = activities[i - 1];
    sorted = !ByStreamAndStart()(activities[i], before);
  }
  if (sorted) return;
  gpu::RecordSorter<Activity, ByStreamAndStart> sorter;
  for (const Activity& activity : activities) sorter.add(activity);
  sorter.sort();
  Activity next;
  for (size_t i = 0; sorter.next(next); ++i) activities[i] = next;
}

struct Ran {
  int64_t correlation, start_ns;
  uint32_t activity;
};
struct Called {
  int64_t correlation, start_ns;
  uint32_t launch;
};

}  // namespace

JoinSummary join(Run& run) {
  JoinSummary summary;
  sort(run.activities);
  {
    gpu::LaunchJoin<Ran, Called> calls;
    for (uint32_t i = 0; i < run.activities.size(); ++i) {
      const Activity& activity = run.activities[i];
      calls.add(Ran{activity.correlation, activity.start_ns, i});
    }
    for (uint32_t i = 0; i < run.launches.size(); ++i) {
      const Launch& launch = run.launches[i];
      if (launch.kind == LaunchKind::node) continue;
      // A call of the runtime around a call of the driver has an id of its own; records may name
      // either.
      if (launch.correlation != 0) calls.add(Called{launch.correlation, launch.time_ns, i});
      if (launch.outer_correlation != 0 && launch.outer_correlation != launch.correlation) {
        calls.add(Called{launch.outer_correlation, launch.time_ns, i});
      }
    }
    calls.run([&](const Ran& ran, const Called* called, bool /*same*/) {
      if (called != nullptr) run.activities[ran.activity].launch = called->launch;
    });
  }
  const NodeHistory nodes(run);
  for (Activity& activity : run.activities) {
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
    activity.origin = nodes.find(static_cast<uint64_t>(activity.graph_node),
                                 activity.start_ns + gpu::kClockSlackNs);
    if (activity.origin != kNone) ++summary.resolved_nodes;
  }
  return summary;
}

}  // namespace preserve::cuda
