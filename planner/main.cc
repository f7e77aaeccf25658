// SPDX-License-Identifier: Apache-2.0
// preserve-tune: trace.db and device.json in, schedule.json out.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"
#include "db/losses.h"
#include "db/step/folded_step.h"
#include "db/step/quality.h"
#include "db/trace_db.h"
#include "planner/measure/measure_plans.h"
#include "planner/problem/dimacs.h"
#include "planner/schedule/device.h"
#include "planner/schedule/device_fits.h"
#include "planner/schedule/schedule.h"
#include "planner/search/explain.h"
#include "planner/search/plan.h"
#include "planner/search/unnamed.h"
#include "planner/tune_options.h"

namespace preserve {
namespace {

void summarise(const TuneOptions& options, const FoldedStep& step, const Schedule& schedule,
               Console& console) {
  const Plan& plan = schedule.plan;
  std::string text =
      fmt::format("{}: {}\n", to_string(plan.verdict), fmt::join(plan.reasons, "\n  "));
  if (options.explain) text = explain(step, schedule);
  text += measured_table(schedule);
  if (options.output == "-") {
    console.info(text);  // standard output is the schedule
  } else {
    fmt::print("{}", text);
  }
}

// Losses of the recording are reported first, since they limit all results.
FoldedStep load_step(const TuneOptions& options, std::vector<std::string>& losses,
                     Console& console) {
  const TraceDb db = TraceDb::open(options.trace);
  losses = loss_sentences(db);
  for (const std::string& loss : losses) console.warn(loss);
  require_quality(db, options.force);
  report_quality(db, console);
  FoldedStep step = fold_step(db, options.rank);
  console.detail(fmt::format("{}: {} operators in the step, folded from {} of {} steps of rank {}",
                             options.trace, step.ops.size(), step.steps_used, step.steps_total,
                             step.rank));
  return step;
}

// The schedule without trace; with `dimacs` also writes its problem.
std::optional<Schedule> make(const TuneOptions& options, const FoldedStep& step,
                             const DeviceModel& device, OutputFile* dimacs, Console& console) {
  if (!options.measure) {
    Planned planned = make_schedule(step, device, options.plan);
    if (dimacs != nullptr) dimacs->write(to_dimacs(planned.solved->problem));
    return std::move(planned.schedule);
  }
  MeasureRequest request = options.replays;
  request.trace = options.trace_file();
  request.trace_sha256 = sha256_of_file(request.trace);
  request.force = options.force;
  return measure_plans(step, device, options.plan, request, console);
}

// The step of a model, whose summary goes where the schedule does not.
FoldedStep generate_step(const TuneOptions& options, const DeviceModel& device, Console& console) {
  Workload workload = workload_step(options.workload, device, options.force);
  if (options.output == "-") {
    console.info(workload.summary);
  } else {
    fmt::print("{}", workload.summary);
  }
  return std::move(workload.step);
}

// What --print step and --tp 1 give instead of a plan.
int show_step(const TuneOptions& options, const DeviceModel& device, Console& console) {
  const Workload workload = workload_step(options.workload, device, options.force);
  for (const std::string& warning : workload.step.warnings) console.warn(warning);
  if (options.workload.print == "step") {
    fmt::print("{}", step_table(workload, options.workload.format));
    return kExitDone;
  }
  fmt::print("{}no plan: one rank has no collective to prefetch in; {} is not written\n",
             workload.summary, options.output == "-" ? "a schedule" : options.output);
  return kExitDone;
}

int tune(TuneOptions& options, std::vector<std::string> rest, Console& console) {
  check_options(options, std::move(rest));
  const DeviceModel measured = load_device(options.device);
  if (options.shows_step()) return show_step(options, measured, console);
  if (!options.trace.empty()) {  // a wrong input before a taken output
    check_device_fits(TraceDb::open(options.trace), measured, options.device, options.force);
  }
  OutputFile output(options.output, options.force);
  std::optional<OutputFile> dimacs;
  if (!options.dimacs.empty()) dimacs.emplace(options.dimacs, options.force);

  std::vector<std::string> careful;
  const DeviceModel device = careful_device(measured, careful);
  if (measured.verdict == "unsteady") {
    careful.insert(careful.begin(), fmt::format("{} is unsteady: {}", options.device,
                                                printable(measured.verdict_reason, 300)));
  }
  if (!options.trace.empty()) {
    const std::vector<std::string> fits =
        check_device_fits(TraceDb::open(options.trace), measured, options.device, options.force);
    careful.insert(careful.end(), fits.begin(), fits.end());
  }
  for (const std::string& sentence : careful) console.warn(sentence);
  std::vector<std::string> losses;
  const FoldedStep step = options.workload.given() ? generate_step(options, device, console)
                                                   : load_step(options, losses, console);
  if (!reads_named_memory(step)) {
    const std::string answer = answer_without_names(step, device, options.plan);
    if (output.is_stdout()) {
      console.info(answer);
    } else {
      fmt::print("{}", answer);
    }
    return kExitDone;
  }
  std::optional<StopSignals> stop;
  if (options.measure) stop.emplace();
  std::optional<Schedule> made = make(options, step, device, dimacs ? &*dimacs : nullptr, console);
  if (!made) return 128 + StopSignals::received();
  Schedule& schedule = *made;
  // The trace for replay; a model that was not written as one has none.
  const std::string& trace = options.trace_file();
  schedule.trace_path = trace;
  if (!trace.empty()) schedule.trace_sha256 = sha256_of_file(trace);

  for (const std::string& warning : schedule.warnings) console.warn(warning);
  schedule.warnings.insert(schedule.warnings.begin(), careful.begin(), careful.end());
  schedule.warnings.insert(schedule.warnings.begin(), losses.begin(), losses.end());
  output.write(to_json(schedule));
  summarise(options, step, schedule, console);
  if (!output.is_stdout() && !trace.empty()) {
    std::string next = fmt::format("preserve-replay {} {}", trace, options.output);
    for (const std::string& word : options.replays.replay_words) next += " " + word;
    if (schedule.plan.verdict == PlanVerdict::do_nothing) {
      // A replay of nothing shows the noise of the machine; the plans that were rejected can be
      // tried.
      next = schedule.candidates.empty()
                 ? fmt::format("preserve-report {} {} -o report.html", trace, options.output)
                 : next + " --candidates";
    }
    console.next(next);
  }
  return kExitDone;
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  preserve::TuneOptions options;
  // Cut off here: the parser would take the first word after -- for the trace.
  char** const end = std::find(argv, argv + argc, std::string_view("--"));
  const std::vector<std::string> rest(end == argv + argc ? end : end + 1, argv + argc);
  const preserve::ToolInfo info{
      "preserve-tune", "Finds the best cache prefetch schedule for a recorded decode step.",
      "Examples:\n"
      "  preserve-calibrate -o device.json\n"
      "  preserve-tune trace.db --device device.json\n"
      "  preserve-tune trace.db --device device.json --explain --link 200us -o slow-link.json\n"
      "  preserve-tune trace.db --device device.json --dimacs flow.min && glpsol --mincost "
      "flow.min\n"
      "  preserve-tune trace.db --device device.json --measure --measure-time 120s\n"
      "  preserve-tune trace.db --device device.json --measure -- --oversubscribe\n"
      "\nSizes: 32MiB, 4MB; times: 200us, 1.5ms, 60s.\n"
      "Exit codes: 0 done (also when the verdict is do-nothing or no tensor is named), 2 usage or "
      "bad input (also when "
      "preserve-replay cannot\nmeasure), 3 internal, 4 the model does not fit the ranks or the "
      "device, 130 interrupted.",
      fmt::format("trace schema {}, schedule {}, device {}", preserve::kTraceSchemaVersion,
                  preserve::kScheduleVersion, preserve::kDeviceVersion)};
  return preserve::run_tool(
      static_cast<int>(end - argv), argv, info,
      [&](CLI::App& app) { preserve::define_options(app, options); },
      [&](preserve::Console& console) { return preserve::tune(options, rest, console); });
}
