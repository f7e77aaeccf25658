// SPDX-License-Identifier: Apache-2.0
// A machine for the closed loop that replays nothing: the simulator, on a device that the planner
// does not know, says what each plan does. Per way of issuing it may have another truth.
#pragma once

#include <cstdint>
#include <functional>

#include "db/step/folded_step.h"
#include "planner/measure/closed_loop.h"

namespace preserve::test {

struct World {
  const FoldedStep* step = nullptr;
  DeviceModel truth;
  int64_t link_latency_ns = 0;
  // Changes what a plan issued like that gets of the device; empty: nothing.
  std::function<void(const IssueMethod&, PrefetchMethod&)> issued{};
  double half_width = 0.003;  // of the intervals
  int64_t pairs = 100;
  bool busy = false;

  PlanFindings find(const Schedule& schedule, const Plan& plan) const;
  ReplayFindings replay(const Schedule& schedule) const;
};

// What the loop says when everything that it asks for is replayed in that world.
Schedule run_loop(ClosedLoop& loop, const World& world);

}  // namespace preserve::test
