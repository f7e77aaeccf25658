// SPDX-License-Identifier: Apache-2.0
// Today's plans against those of an older preserve-tune (PRESERVE_TUNE_BEFORE), cell by cell, both
// judged by today's simulator. A line per cell goes to standard error.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "common/child_process.h"
#include "tests/bench/metric.h"
#include "tests/bench/plan_cells.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

Schedule planned_before(const bench::PlanCell& cell, const std::string& output) {
  std::vector<std::string> argv = {PRESERVE_TUNE_BEFORE,
                                   "--model",
                                   test::model_file(cell.model),
                                   "--device",
                                   test::device_file(cell.device_name),
                                   "--tp",
                                   std::to_string(cell.spec.ranks),
                                   "--batch",
                                   std::to_string(cell.spec.batch),
                                   "--context",
                                   std::to_string(cell.spec.context),
                                   "-f",
                                   "-o",
                                   output};
  if (cell.spec.allreduce_ns) {
    argv.insert(argv.end(), {"--allreduce-time", std::to_string(*cell.spec.allreduce_ns) + "ns"});
  }
  const ChildRun run = run_child_quietly(argv);
  if (run.exit_code != 0) throw internal_error("{}: {}", PRESERVE_TUNE_BEFORE, last_error(run));
  return load_schedule(output);
}

void compare(const std::string& output) {
  std::vector<double> faster_percent;
  std::map<std::string, std::vector<double>> by_device;
  bench::for_each_plan_cell([&](const bench::PlanCell& cell) {
    const Plan now = make_schedule(cell.step, *cell.device, {}).schedule.plan;
    const Schedule schedule = planned_before(cell, output);
    Plan before = schedule.plan;
    if (before.baseline_step_ns != now.baseline_step_ns) {
      throw internal_error("{}: {} plans for another step", cell.name(), PRESERVE_TUNE_BEFORE);
    }
    const int64_t promised_ns = before.prefetch_step_ns;
    predict(before, cell.step, *cell.device, method_of(schedule, before), {});
    // Which of them is worth following is judged alike.
    if (before.speedup < 1 + kVerdictTolerance) before.prefetch_step_ns = before.baseline_step_ns;
    faster_percent.push_back(100 * (static_cast<double>(before.prefetch_step_ns) /
                                        static_cast<double>(now.prefetch_step_ns) -
                                    1));
    by_device[cell.device_name].push_back(faster_percent.back());
    const nlohmann::ordered_json line{{"cell", cell.name()},
                                      {"step_ns", now.baseline_step_ns},
                                      {"now_ns", now.prefetch_step_ns},
                                      {"before_ns", before.prefetch_step_ns},
                                      {"before_by_itself_ns", promised_ns}};
    std::fprintf(stderr, "%s\n", line.dump().c_str());
  });
  const auto [worst, best] = std::minmax_element(faster_percent.begin(), faster_percent.end());
  const auto worse = std::count_if(faster_percent.begin(), faster_percent.end(),
                                   [](double percent) { return percent < -0.005; });
  bench::report_metric("plan_gain", "faster than the plan of the older preserve-tune", "%",
                       faster_percent);
  for (const auto& [device, percents] : by_device) {
    bench::report_metric("plan_gain", device + ": faster", "%", percents);
    bench::report_metric("plan_gain", device + ": worst cell", "%",
                         {*std::min_element(percents.begin(), percents.end())});
  }
  bench::report_metric("plan_gain", "worst cell", "%", {*worst}, "none slower by 0.005 %",
                       worse == 0);
  bench::report_metric("plan_gain", "best cell", "%", {*best});
}

}  // namespace
}  // namespace preserve

int main() {
  const preserve::test::TemporaryDirectory directory;
  preserve::compare(directory / "before.json");
}
