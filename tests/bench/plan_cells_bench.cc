// SPDX-License-Identifier: Apache-2.0
// What planning gains, cell by cell, and whether what a schedule says of its plan holds there.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/metric.h"
#include "tests/bench/plan_cells.h"

namespace preserve {
namespace {

Schedule planned(const bench::PlanCell& cell, WindowsMode windows) {
  PlanOptions options;
  options.problem.windows = windows;
  return make_schedule(cell.step, *cell.device, options).schedule;
}

// By how much the flow promises more or less than the simulator finds.
double promise_percent(const Plan& plan) {
  const auto promised_ns = static_cast<double>(plan.objective_ns);
  const auto found_ns = static_cast<double>(plan.baseline_step_ns - plan.prefetch_step_ns);
  const double off_ns = std::fabs(promised_ns - found_ns);
  return off_ns > 0 ? 100 * off_ns / std::max(promised_ns, 1.0) : 0;
}

bool says_why_promise_differs(const Plan& plan) {
  return std::any_of(plan.reasons.begin(), plan.reasons.end(), [](const std::string& reason) {
    return reason.starts_with("the flow promises ") && reason.find(" by ") != std::string::npos;
  });
}

double percent(int64_t less_ns, int64_t more_ns) {
  return 100 * (static_cast<double>(more_ns) / static_cast<double>(less_ns) - 1);
}

// Every so many cells, one line each: to compare two versions of the planner.
void print_cells(int every) {
  int number = 0;
  bench::for_each_plan_cell([&](const bench::PlanCell& cell) {
    if (number++ % every != 0) return;
    const auto start = std::chrono::steady_clock::now();
    const Plan plan = planned(cell, WindowsMode::collective).plan;
    const double took_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    const nlohmann::ordered_json line{
        {"cell", cell.name()},
        {"operators", cell.step.ops.size()},
        {"step_ns", plan.baseline_step_ns},
        {"plan_ns", plan.prefetch_step_ns},
        {"idle_ns", planned(cell, WindowsMode::idle).plan.prefetch_step_ns},
        {"promise_percent", promise_percent(plan)},
        {"reasons", plan.reasons},
        {"took_ms", took_ms}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  });
}

void summarise_cells() {
  std::vector<double> gain_percent, to_bound_percent, idle_percent, promises_percent;
  bool idle_never_worse = true, promises_explained = true;
  bench::for_each_plan_cell([&](const bench::PlanCell& cell) {
    const Schedule schedule = planned(cell, WindowsMode::collective);
    const int64_t plan_ns = schedule.plan.prefetch_step_ns;
    const int64_t idle_ns = planned(cell, WindowsMode::idle).plan.prefetch_step_ns;
    gain_percent.push_back(percent(plan_ns, schedule.plan.baseline_step_ns));
    to_bound_percent.push_back(
        percent(std::max({schedule.all_hot_step_ns, schedule.window_limited_step_ns,
                          schedule.cache_limited_step_ns}),
                plan_ns));
    if (schedule.plan.strategy == Strategy::flow) {
      promises_percent.push_back(promise_percent(schedule.plan));
      promises_explained = promises_explained && (promises_percent.back() <= 1 ||
                                                  says_why_promise_differs(schedule.plan));
    }
    idle_percent.push_back(percent(idle_ns, plan_ns));
    idle_never_worse = idle_never_worse && idle_percent.back() >= -0.02;
  });
  bench::report_metric("plan_cells", "predicted gain of a cell", "%", gain_percent);
  bench::report_metric("plan_cells", "plan above the highest bound", "%", to_bound_percent);
  bench::report_metric("plan_cells", "faster with idle windows", "%", idle_percent,
                       "never slower by more than 0.02 %", idle_never_worse);
  bench::report_metric("plan_cells", "the flow's promise differs from the simulator's saving", "%",
                       promises_percent, "beyond 1 % the schedule says which term",
                       promises_explained);
  const auto beyond = std::count_if(promises_percent.begin(), promises_percent.end(),
                                    [](double percent) { return percent > 1; });
  bench::report_metric("plan_cells", "plans whose promise differs by more than 1 %", "",
                       {static_cast<double>(beyond)});
  bench::report_metric("plan_cells", "most by which a promise differs", "%",
                       {*std::max_element(promises_percent.begin(), promises_percent.end())});
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  if (argc > 1) {
    preserve::print_cells(std::max(1, std::atoi(argv[1])));
  } else {
    preserve::summarise_cells();
  }
}
