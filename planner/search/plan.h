// SPDX-License-Identifier: Apache-2.0
// trace.db -> schedule.json: the planner as one function. Builds the problem (problem.h), solves it
// by the chosen strategy, lets the referee judge the candidates (simulator.h), and says `prefetch`
// or `do-nothing` with reasons. Deterministic: same inputs, same schedule.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/referee/simulator.h"
#include "planner/schedule/schedule.h"
#include "planner/search/bfs.h"

namespace preserve {

enum class Strategy { none, bfs, flow };

struct PlanOptions {
  ProblemOptions problem{};
  Strategy strategy = Strategy::flow;
  BfsOptions bfs{};
  int candidates = 3;                       // plans in the schedule, the chosen one included
  int64_t min_prefetch_bytes = 64 << 10;    // smaller pieces are not worth a request
  std::optional<int64_t> window_cost_ns{};  // of using a window at all; nothing: the device's
  uint64_t seed = 1;
};

struct SolvedProblem {
  PlanProblem problem;
  FlowSolution optimum;  // of problem.flow
};

struct Planned {
  Schedule schedule;  // without trace digest and path
  // Behind the chosen plan: its optimum is predicted.objective_ns when the strategy is flow.
  std::shared_ptr<const SolvedProblem> solved;
};

// Fetch the same bytes in the same windows in the same order.
bool same_prefetches(const Plan& a, const Plan& b);

// Judges one plan; simulate() but for tests of the choice.
using Referee = std::function<SimulationResult(const FoldedStep&, const DeviceModel&, const Plan&,
                                               const SimulationOptions&)>;

// What the referee makes of a plan that is issued so: sets prefetch_step_ns and speedup. Baseline
// and windows are there already.
void predict(Plan& plan, const FoldedStep& step, const DeviceModel& device,
             const IssueMethod& issue, const PlanOptions& options,
             const Referee& referee = simulate);

Planned make_schedule(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options,
                      const Referee& referee = simulate);

}  // namespace preserve
