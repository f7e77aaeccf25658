// SPDX-License-Identifier: Apache-2.0
// schedule.json as the plan file that the library inside the program reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apply/plan_content.h"
#include "common/error.h"
#include "planner/schedule/schedule.h"

namespace preserve::apply {

struct PlanRequest {
  std::filesystem::path schedule;  // for messages
  std::filesystem::path folder;    // absolute; where the library leaves outcomes
  Mode mode = Mode::guard;
  std::optional<Via> via{};  // as the schedule's method and a measurement say
};

template <typename Content>
struct Compiled {
  Content content;
  int64_t planned_bytes = 0;            // per step, of the windows that are applied
  std::vector<std::string> warnings{};  // what of the schedule is left out, and why
};

// As the library will read it; input_error where it would not.
template <typename View, typename Content>
Compiled<Content> checked(Compiled<Content> compiled, const PlanRequest& request) {
  const std::string file = compiled.content.encoded();
  View view;
  if (const char* error = view.open(std::as_bytes(std::span(file)))) {
    throw input_error("{}: cannot be applied: as a plan, {}", request.schedule.string(), error);
  }
  return compiled;
}

using CompiledPlan = Compiled<PlanContent>;

// Of a schedule whose verdict is prefetch. input_error, saying what to do, for one that no program
// on processors can follow: without signature, for a GPU, with a way of fetching that is not built.
CompiledPlan compile_plan(const Schedule& schedule, const PlanRequest& request);

}  // namespace preserve::apply
