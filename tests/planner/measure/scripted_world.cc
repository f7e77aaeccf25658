// SPDX-License-Identifier: Apache-2.0
#include "tests/planner/measure/scripted_world.h"

#include <set>
#include <stdexcept>

namespace preserve::test {

PlanFindings World::find(const Schedule& schedule, const Plan& plan) const {
  const IssueMethod& issue = method_of(schedule, plan);
  DeviceModel device = truth;
  for (PrefetchMethod& method : device.methods) {
    if (issued && method.name == issue.name && method.placement == issue.placement) {
      issued(issue, method);
    }
  }
  const SimulationResult result =
      simulate(*step, device, plan, {issue.name, issue.placement, link_latency_ns});
  std::set<int32_t> consumers, carriers;
  for (const PlannedWindow& window : plan.windows) {
    if (window.used_bytes > 0) carriers.insert(window.ordinal);
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      consumers.insert(prefetch.consumer_ordinal);
    }
  }
  const auto cost_ns = static_cast<double>(truth.window_cost_ns);
  const double fixed_ns = cost_ns * static_cast<double>(carriers.size());
  const double speedup = result.baseline_step_ns / (result.step_ns + fixed_ns);
  PlanFindings found;
  found.collectives_added_ns = fixed_ns;
  if (&plan == &schedule.plan) found.window_cost_ns = Interval{cost_ns - 50, cost_ns, cost_ns + 50};
  found.speedup = {{speedup - half_width, speedup, speedup + half_width}, pairs};
  found.issued_bytes = result.arrived_bytes;
  for (const int32_t op : consumers) {
    const SimulatedOp& simulated = result.ops[static_cast<size_t>(op)];
    found.consumers_ns += simulated.baseline_dur_ns;
    found.saved_ns += simulated.baseline_dur_ns - simulated.dur_ns;
  }
  for (const int32_t op : carriers) {
    const SimulatedOp& simulated = result.ops[static_cast<size_t>(op)];
    found.collectives_added_ns += simulated.dur_ns - simulated.baseline_dur_ns;
  }
  return found;
}

ReplayFindings World::replay(const Schedule& schedule) const {
  ReplayFindings findings;
  findings.busy = busy;
  findings.plans.push_back(find(schedule, schedule.plan));
  for (const Plan& plan : schedule.candidates) findings.plans.push_back(find(schedule, plan));
  return findings;
}

Schedule run_loop(ClosedLoop& loop, const World& world) {
  for (int replays = 0; loop.next(); ++replays) {
    if (replays > kMostRounds + 2) throw std::logic_error("the loop does not end");
    loop.take(world.replay(*loop.next()));
  }
  return loop.result();
}

}  // namespace preserve::test
