// SPDX-License-Identifier: Apache-2.0
// What a schedule says of its plan: what no change would better, how far a bound is, and where the
// flow and the simulator differ.
#pragma once

#include <cstdint>
#include <string>

#include "planner/problem/problem.h"
#include "planner/referee/simulator.h"
#include "planner/schedule/schedule.h"
#include "planner/search/plan.h"
#include "planner/search/search.h"

namespace preserve {

// How a saving comes about, in ns per step: hits - evicted - slowed - waiting.
struct Saving {
  double hits_ns = 0;     // what is fetched saves so much where it is read
  double evicted_ns = 0;  // less what arrived and was evicted before that
  double slowed_ns = 0;   // others lose beside the prefetches
  double waiting_ns = 0;  // gaps, overlap and the wait for the last prefetch
  double total_ns() const { return hits_ns - evicted_ns - slowed_ns - waiting_ns; }
};

Saving saving_of(const Referee& referee, const PrefetchOrders& orders,
                 const SimulationResult& judged);
Saving saving_of(const PlanProblem& problem, const FlowSolution& optimum);

// Empty when flow and simulator agree within a hundredth of what the flow promises.
std::string where_they_differ(const Saving& flow, const Saving& simulated);

std::string what_is_certain(const SearchResult& certificate, int64_t baseline_step_ns);
// Between the plan and the highest bound.
std::string what_is_left(const Schedule& schedule);
std::string why_nothing_is_fetched(const PlanOptions& options, const DeviceModel& device,
                                   const PlanProblem& problem, const FlowSolution& optimum);
// `best`: the plan that saves most, too little or nothing, and how it was made.
std::string why_not_worth_it(const Plan& best, const std::string& how);

// The step by the method of `other`, or why that one fetches nothing.
std::string what_another_gives(const Schedule& chosen, const Schedule& other);

}  // namespace preserve
