// SPDX-License-Identifier: Apache-2.0
// How long the planner takes at 1e3, 1e5 and 1e6 operators (problem, exact solution, prices,
// decomposition, and apart from that the whole schedule with its search and bounds), the
// memory it needs, and how far the flow is ahead of the paper's Algorithm 1 under the referee.
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>

#include "common/kept_memory.h"
#include "planner/search/decompose.h"
#include "planner/search/plan.h"
#include "tests/bench/metric.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

double peak_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);
}

struct Size {
  int layers;
  const char* name;
  double target_s;
  const char* target;
  double whole_target_s;
  const char* whole_target;
  int repetitions;
};

void bench_size(const Size& size) {
  test::SyntheticStep spec;
  spec.layers = size.layers;
  const FoldedStep step = test::synthetic_step(spec);
  const DeviceModel device = test::gpu_device();
  std::vector<double> exact_s, whole_s;
  for (int i = 0; i < size.repetitions; ++i) {
    exact_s.push_back(
        bench::seconds_of([&] { decompose(step, solve(build_problem(step, device, {}))); }));
    whole_s.push_back(bench::seconds_of([&] { make_schedule(step, device, {}); }));
  }
  const std::string ops = size.name;
  bench::report_metric("planner", "exact plan, " + ops + " operators", "s", exact_s, size.target,
                       median(exact_s) <= size.target_s);
  bench::report_metric("planner", "whole schedule with referee, " + ops + " operators", "s",
                       whole_s, size.whole_target, median(whole_s) <= size.whole_target_s);
}

// The step with the optimum of the model and nothing else: no second look, no choice.
double pure_flow_step_ns(const FoldedStep& step, const DeviceModel& device) {
  const SolvedProblem solved = solve(build_problem(step, device, {}));
  const Decomposition optimum = decompose(step, solved);
  Plan plan;
  plan.windows = WindowRing(step, solved.problem, optimum.windows).planned_windows(optimum.amounts);
  const SimulationResult referee = simulate(step, device, plan);
  return solved.problem.baseline_step_ns * referee.step_ns / referee.baseline_step_ns;
}

void bench_against_bfs(int instances) {
  std::vector<double> advantage_percent;
  int worse = 0;
  double referee_took_bfs = 0, bfs_beats_pure_flow = 0;
  for (int seed = 0; seed < instances; ++seed) {
    const FoldedStep step = test::random_step(static_cast<uint64_t>(seed));
    const DeviceModel device = test::random_device(static_cast<uint64_t>(seed));
    PlanOptions options;
    const Schedule flow = make_schedule(step, device, options).schedule;
    options.strategy = Strategy::bfs;
    const Schedule bfs = make_schedule(step, device, options).schedule;
    bfs_beats_pure_flow +=
        static_cast<double>(bfs.plan.prefetch_step_ns) + 1 < pure_flow_step_ns(step, device);
    referee_took_bfs += flow.plan.strategy == Strategy::bfs;
    worse += flow.plan.prefetch_step_ns > bfs.plan.prefetch_step_ns;
    advantage_percent.push_back(100.0 * (static_cast<double>(bfs.plan.prefetch_step_ns) /
                                             static_cast<double>(flow.plan.prefetch_step_ns) -
                                         1));
  }
  bench::report_metric("planner", "flow faster than bfs under the referee", "%", advantage_percent,
                       "never worse on 5,000 random instances", worse == 0);
  bench::report_metric("planner",
                       "random instances where bfs, which may ask for more than arrives, is faster",
                       "", {static_cast<double>(worse)});
  bench::report_metric(
      "planner", "there by at most", "%",
      {std::max(0.0, -*std::min_element(advantage_percent.begin(), advantage_percent.end()))});
  bench::report_metric("planner", "random instances where bfs beats the optimum of the flow alone",
                       "%", {100.0 * bfs_beats_pure_flow / instances});
  bench::report_metric("planner", "random instances where the plan of bfs was chosen", "%",
                       {100.0 * referee_took_bfs / instances});
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  const int instances = argc > 1 ? std::atoi(argv[1]) : 5000;
  preserve::keep_freed_memory();  // as preserve-tune does
  using preserve::bench_size;
  bench_size({83, "1,000", 0.020, "at most 20 ms", 0.050, "at most 50 ms", 21});
  bench_size({8'334, "100,000", 1, "at most 1 s", 2, "at most 2 s", 5});
  bench_size({83'334, "1,000,000", 15, "at most 15 s", 20, "at most 20 s", 1});
  const double gib = preserve::peak_gib();
  preserve::bench::report_metric("planner", "peak memory, 1,000,000 operators", "GiB", {gib},
                                 "at most 4 GiB", gib <= 4);
  if (instances > 0) preserve::bench_against_bfs(instances);
}
