// SPDX-License-Identifier: Apache-2.0
// trace.db -> schedule.json: the planner as one function. Builds the problem (problem.h), solves it
// by the chosen strategy, improves the plan under the referee until no single change betters it
// (search.h), and decides `prefetch` or `do-nothing` with reasons. Deterministic: same inputs, same
// schedule.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/referee/simulator.h"
#include "planner/schedule/schedule.h"
#include "planner/search/decompose.h"

namespace preserve {

struct PlanOptions {
  ProblemOptions problem{};
  Strategy strategy = Strategy::flow;
  int candidates = 3;                     // plans in the schedule, the chosen one included
  int64_t min_prefetch_bytes = 16 << 10;  // smaller pieces are not worth a request
};

struct Planned {
  Schedule schedule;  // without trace digest and path
  // What the chosen plan solves: its optimum is predicted.objective_ns when the strategy is flow.
  std::shared_ptr<const SolvedProblem> solved;
};

// Sets prefetch_step_ns and speedup by the referee's judgement of a plan issued by `issue`, which
// it returns; an empty one for a plan that fetches nothing. Baseline and windows are set already.
SimulationResult predict(Plan& plan, const FoldedStep& step, const DeviceModel& device,
                         const IssueMethod& issue, const PlanOptions& options);

// By the method that the options name, else by the first of methods_to_plan(), or another one whose
// step is shorter by what counts as a gain.
Planned make_schedule(const FoldedStep& step, const DeviceModel& device,
                      const PlanOptions& options);

// What each strategy is, for --help.
extern const char* const kStrategiesInWords;

}  // namespace preserve
