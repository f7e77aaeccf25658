// SPDX-License-Identifier: Apache-2.0
// preserve-tune: trace.db and device.json in, schedule.json out.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/error.h"
#include "common/kept_memory.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "db/losses.h"
#include "db/step/collective_work.h"
#include "db/step/folded_step.h"
#include "db/step/phase.h"
#include "db/step/quality.h"
#include "db/trace_db.h"
#include "planner/measure/learned.h"
#include "planner/measure/measure_plans.h"
#include "planner/problem/dimacs.h"
#include "planner/problem/recorded_memory.h"
#include "planner/schedule/device.h"
#include "planner/schedule/device_fits.h"
#include "planner/schedule/schedule.h"
#include "planner/search/explain.h"
#include "planner/search/plan.h"
#include "planner/search/unnamed.h"
#include "planner/tune_options.h"
#include "planner/workload/align/recording.h"
#include "planner/workload/operator_times.h"

namespace preserve {
namespace {

void print(const TuneOptions& options, const std::string& text, Console& console) {
  if (options.output == "-") {
    console.info(text);  // standard output is the schedule
  } else {
    fmt::print("{}", text);
  }
}

void summarise(const TuneOptions& options, const FoldedStep& step, const DeviceModel& device,
               const Schedule& schedule, Console& console) {
  const Plan& plan = schedule.plan;
  std::string text =
      fmt::format("{}: {}\n", to_string(plan.verdict), fmt::join(plan.reasons, "\n  "));
  if (options.explain) {
    // A measured plan was made for a device that its measurements corrected.
    text = explain(
        step, schedule,
        options.measure ? Sensitivity{} : sensitivity(step, device, options.plan, schedule));
  }
  text += measured_table(schedule);
  print(options, text, console);
}

// What is planned: one step of a phase, and where its schedule goes.
struct Task {
  std::optional<StepPhase> phase;  // nothing: as fold_step() chooses
  OutputFile output;
  FoldedStep step{};
  DeviceModel device{};               // with the memory as the step found it
  std::vector<std::string> doubts{};  // of device and recording
};

std::string prefill_output(const std::string& output) {
  const std::filesystem::path path(output);
  return (path.parent_path() / (path.stem().string() + "-prefill" + path.extension().string()))
      .string();
}

// Outputs are checked before any work.
std::vector<Task> tasks_of(const TuneOptions& options) {
  std::vector<Task> tasks;
  if (options.phase == PhaseChoice::any) {
    const std::vector<StepPhase> phases =
        recorded_phases(TraceDb::open(options.trace), options.rank);
    if (phases.size() > 1 && (options.output == "-" || !options.dimacs.empty())) {
      throw usage_error(
          "{} has decode and prefill steps: two schedules cannot go to one output, name it with -o "
          "FILE and leave out --dimacs, or choose a --phase",
          options.trace);
    }
    for (const StepPhase phase : phases) {
      const bool second = !tasks.empty();
      tasks.push_back({phase, OutputFile(second ? prefill_output(options.output) : options.output,
                                         options.force)});
    }
    if (!tasks.empty()) return tasks;
  }
  std::optional<StepPhase> phase;
  if (options.phase == PhaseChoice::decode) phase = StepPhase::decode;
  if (options.phase == PhaseChoice::prefill) phase = StepPhase::prefill;
  tasks.push_back({phase, OutputFile(options.output, options.force)});
  return tasks;
}

// As which fold_step() finds such steps: those of unknown phase count as decode.
StepPhase folded_phase(const FoldedStep& step) {
  return step.phase == StepPhase::prefill ? StepPhase::prefill : StepPhase::decode;
}

// Those with steps of that phase.
std::vector<int64_t> other_ranks(const TraceDb& db, int64_t rank, StepPhase phase) {
  std::vector<int64_t> ranks = ranks_with_steps(db);
  std::erase_if(ranks, [&](int64_t other) {
    const std::vector<StepPhase> phases = recorded_phases(db, other);
    return other == rank || std::ranges::find(phases, phase) == phases.end();
  });
  return ranks;
}

// The steps of the recording with what the model says of their kernels, on all ranks: replay runs
// them all, from the copy of the trace that is written.
void align_steps(const TuneOptions& options, const DeviceModel& device, const TraceDb& db,
                 std::vector<Task>& tasks, Console& console) {
  require_file(options.workload.trace_out, "--trace-out: a trace");
  OutputFile copy(options.workload.trace_out, options.force);
  std::vector<align::AlignedStep> all;
  for (Task& task : tasks) {
    align::AlignedStep planned =
        align::align_step(db, options.rank, task.phase, options.workload, device, options.force);
    print(options, planned.summary, console);
    if (options.explain) print(options, planned.table, console);
    task.step = planned.step;
    const StepPhase phase = folded_phase(task.step);
    for (const int64_t rank : other_ranks(db, task.step.rank, phase)) {
      all.push_back(align::align_step(db, rank, phase, options.workload, device, options.force));
      console.detail(all.back().summary);
    }
    all.push_back(std::move(planned));
  }
  align::write_aligned_trace(options.trace, all, options.workload.model, copy.temporary_path());
  copy.commit();
  console.info(fmt::format("{}: the trace with what its kernels read", options.workload.trace_out));
}

double in_collectives_ns(const FoldedStep& step) {
  double total_ns = 0;
  for (const StepOp& op : step.ops) total_ns += op.collective ? op.dur_ns : 0;
  return total_ns;
}

// A rank that comes early waits in each collective for the others. What it could fetch meanwhile
// the last one cannot, and the step is as long as the last one makes it: so, unless a rank is asked
// for, the plan is for the rank that waits least of those that run the same step. The lowest one
// where they wait about alike. On processors also with what each core works for its collectives.
FoldedStep step_to_plan(const TraceDb& db, const TuneOptions& options, const DeviceModel& device,
                        std::optional<StepPhase> phase, Console& console) {
  constexpr double kAlike = 0.9;
  FoldedStep step = fold_step(db, options.rank, phase);
  const bool finds_work = device.kind == "cpu" && all_ranks_on_one_host(db);
  if (options.rank && !finds_work) return step;
  const StepPhase same = folded_phase(step);
  const int64_t first_rank = step.rank;
  const double first_ns = in_collectives_ns(step);
  CollectiveWork work(step);
  for (const int64_t rank : other_ranks(db, first_rank, same)) {
    FoldedStep other;
    try {
      other = fold_step(db, rank, same);
    } catch (const NoStepError&) {
      continue;  // it runs nothing in its steps
    }
    work.add(other);
    if (!options.rank && other.ops.size() == step.ops.size() &&
        in_collectives_ns(other) < kAlike * first_ns &&
        in_collectives_ns(other) < in_collectives_ns(step)) {
      step = std::move(other);
    }
  }
  if (finds_work) work.set(step);
  if (step.rank != first_rank) {
    console.info(fmt::format(
        "planned for rank {}, which waits least: {} of a step in collectives, rank {} {}",
        step.rank, format_duration(in_collectives_ns(step)), first_rank,
        format_duration(first_ns)));
  }
  return step;
}

// Losses of the recording are reported first, since they limit all results.
void load_steps(const TuneOptions& options, const DeviceModel& device, std::vector<Task>& tasks,
                std::vector<std::string>& losses, Console& console) {
  const TraceDb db = TraceDb::open(options.trace);
  losses = loss_sentences(db);
  for (const std::string& loss : losses) console.warn(loss);
  require_quality(db, options.force);
  report_quality(db, console);
  if (options.aligns()) {
    align_steps(options, device, db, tasks, console);
  } else {
    for (Task& task : tasks) task.step = step_to_plan(db, options, device, task.phase, console);
  }
  for (const Task& task : tasks) {
    const bool asked = options.phase || task.step.phase != StepPhase::decode;
    const std::string phase = fmt::format("phase of the step: {}, {}", to_text(task.step.phase),
                                          phase_reason(db, task.step));
    asked ? console.info(phase) : console.detail(phase);
    console.detail(fmt::format(
        "{}: {} operators in the step, folded from {} of {} steps of rank {}", options.trace,
        task.step.ops.size(), task.step.steps_used, task.step.steps_total, task.step.rank));
  }
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
  print(options, workload.summary, console);
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

bool has_window(const FoldedStep& step, const TuneOptions& options) {
  return options.plan.problem.windows == WindowsMode::idle ||
         std::ranges::any_of(step.ops,
                             [](const StepOp& op) { return op.kind == OpKind::collective; });
}

// Plans one step and writes its schedule.
int plan_step(const TuneOptions& options, Task& task, OutputFile* dimacs, Console& console) {
  const FoldedStep& step = task.step;
  const DeviceModel& device = task.device;
  if (!reads_named_memory(step)) {
    print(options, answer_without_names(step, device, options.plan), console);
    return kExitDone;
  }
  if (options.aligns() && !has_window(step, options)) {
    for (const std::string& warning : step.warnings) console.warn(warning);
    print(options,
          fmt::format("no plan: the step has no collective to prefetch in; {} is not written\n",
                      task.output.is_stdout() ? "a schedule" : task.output.path().string()),
          console);
    return kExitDone;
  }
  std::optional<StopSignals> stop;
  if (options.measure) stop.emplace();
  std::optional<Schedule> made = make(options, step, device, dimacs, console);
  if (!made) return 128 + StopSignals::received();
  Schedule& schedule = *made;
  if (!options.measure) {  // that plan belongs to a corrected device
    offer_idle_windows(step, device, options.plan, schedule);
  }
  // The trace for replay; a model that was not written as one has none.
  const std::string& trace = options.trace_file();
  schedule.trace_path = trace;
  if (!trace.empty()) schedule.trace_sha256 = sha256_of_file(trace);

  for (const std::string& warning : schedule.warnings) console.warn(warning);
  schedule.warnings.insert(schedule.warnings.begin(), task.doubts.begin(), task.doubts.end());
  task.output.write(to_json(schedule));
  summarise(options, step, device, schedule, console);
  if (!task.output.is_stdout() && !trace.empty()) {
    const std::string recording = shell_word(trace);
    const std::string output = shell_word(task.output.path().string());
    std::string next = fmt::format("preserve-replay {} {}", recording, output);
    for (const std::string& word : options.replays.replay_words) next += " " + shell_word(word);
    if (schedule.plan.verdict == PlanVerdict::do_nothing) {
      // A replay of nothing shows the noise of the machine; the plans that were rejected can be
      // tried.
      next = schedule.candidates.empty()
                 ? fmt::format("preserve-report {} {} -o report.html", recording, output)
                 : next + " --candidates";
    }
    console.next(next);
  }
  return kExitDone;
}

void learn(const TuneOptions& options, std::vector<Task>& tasks, Console& console) {
  if (tasks.size() > 1) {
    throw usage_error("--learn takes a run with the plan for one phase: choose it with --phase");
  }
  Task& task = tasks.front();
  CorrectedDevice corrected = learn_from_program(task.step, task.device, options.learn);
  if (corrected.changes.empty()) {
    corrected.changes.emplace_back("it confirms the device file, or too few pairs were compared");
  }
  for (const std::string& change : corrected.changes) {
    task.doubts.push_back(fmt::format("learnt from {}: {}", options.learn, change));
    console.warn(task.doubts.back());
  }
  task.device = std::move(corrected.device);
}

int tune(TuneOptions& options, std::vector<std::string> rest, Console& console) {
  check_options(options, std::move(rest));
  const DeviceModel measured =
      with_collectives(load_device(options.device), options.workload.collectives);
  if (options.shows_step()) return show_step(options, measured, console);
  std::vector<std::string> fits;
  if (!options.trace.empty()) {  // a wrong input before a taken output
    fits = check_device_fits(TraceDb::open(options.trace), measured, options.device, options.force);
  }
  std::vector<Task> tasks = tasks_of(options);
  std::optional<OutputFile> dimacs;
  if (!options.dimacs.empty()) dimacs.emplace(options.dimacs, options.force);

  std::vector<std::string> doubts;
  const DeviceModel device = careful_device(measured, doubts);
  if (measured.verdict == "unsteady") {
    doubts.insert(doubts.begin(), fmt::format("{} is unsteady: {}", options.device,
                                              printable(measured.verdict_reason, 300)));
  }
  doubts.insert(doubts.end(), fits.begin(), fits.end());
  for (const std::string& sentence : doubts) console.warn(sentence);
  std::vector<std::string> losses;
  if (options.trace.empty()) {
    tasks.front().step = generate_step(options, device, console);
  } else {
    load_steps(options, device, tasks, losses, console);
  }
  doubts.insert(doubts.begin(), losses.begin(), losses.end());
  for (Task& task : tasks) {
    task.doubts = doubts;
    task.device = device;
    if (options.trace.empty()) continue;  // nothing was recorded
    task.device = with_recorded_memory(device, task.step, task.doubts);
    if (task.doubts.size() == doubts.size()) continue;
    console.warn(tasks.size() == 1
                     ? task.doubts.back()
                     : fmt::format("{} step: {}", to_text(task.step.phase), task.doubts.back()));
  }
  if (!options.learn.empty()) learn(options, tasks, console);
  for (Task& task : tasks) {
    if (tasks.size() > 1) {
      print(options, fmt::format("{} step\n", to_text(task.step.phase)), console);
    }
    const int code = plan_step(options, task, dimacs ? &*dimacs : nullptr, console);
    if (code != kExitDone) return code;
  }
  return kExitDone;
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  preserve::keep_freed_memory();
  preserve::TuneOptions options;
  // Cut off here: the parser would take the first word after -- for the trace.
  char** const end = std::find(argv, argv + argc, std::string_view("--"));
  const std::vector<std::string> rest(end == argv + argc ? end : end + 1, argv + argc);
  const preserve::ToolInfo info{
      "preserve-tune", "Finds the best cache prefetch schedule for a recorded step.",
      "Examples:\n"
      "  preserve-calibrate -o device.json\n"
      "  preserve-tune trace.db --device device.json\n"
      "  preserve-tune trace.db --device device.json --explain --link 200us -o slow-link.json\n"
      "  preserve-tune trace.db --device device.json --dimacs flow.min && glpsol --mincost "
      "flow.min\n"
      "  preserve-tune trace.db --model config.json --device device.json --explain\n"
      "  preserve-tune trace.db --device device.json --measure --measure-time 120s\n"
      "  preserve-tune trace.db --device device.json --measure -- --oversubscribe\n"
      "\nSizes: 32MiB, 4MB; times: 200us, 1.5ms, 60s.\n"
      "Exit codes: 0 done (also when the verdict is do-nothing or no tensor is named), 2 usage or "
      "bad input (also when preserve-replay cannot\nmeasure), 3 internal, 4 the model does not fit "
      "the ranks or the device, 130 interrupted.",
      fmt::format("trace schema {}, schedule {}, device {}", preserve::kTraceSchemaVersion,
                  preserve::kScheduleVersion, preserve::kDeviceVersion)};
  return preserve::run_tool(
      static_cast<int>(end - argv), argv, info,
      [&](CLI::App& app) { preserve::define_options(app, options); },
      [&](preserve::Console& console) { return preserve::tune(options, rest, console); });
}
