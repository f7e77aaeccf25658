// SPDX-License-Identifier: Apache-2.0
// preserve-tune: trace.db and device.json in, schedule.json out.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/cli.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "db/folded_step.h"
#include "db/losses.h"
#include "db/trace_db.h"
#include "planner/device.h"
#include "planner/dimacs.h"
#include "planner/explain.h"
#include "planner/json_document.h"
#include "planner/plan.h"
#include "planner/schedule.h"
#include "planner/workload_options.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

struct TuneOptions {
  std::string trace, device;
  WorkloadOptions workload;  // instead of a trace
  std::string output = "schedule.json", dimacs;
  bool force = false, explain = false;
  std::optional<int64_t> rank;
  std::string strategy = "flow", windows = "collective", bfs_scope = "window", bfs_full = "stop";
  std::string budget, link = "0", min_prefetch = "16KiB", window_cost = "0", method;
  int candidates = 3;
  uint64_t seed = 1;
};

void define_options(CLI::App& app, TuneOptions& options) {
  app.add_option("trace", options.trace, "Recording made by preserve-profile")
      ->type_name("TRACE.db");
  app.add_option("--device", options.device,
                 "What the hardware can do, made by preserve-calibrate or from examples/devices")
      ->type_name("FILE");
  app.add_option("-o,--output", options.output, "Schedule to write; - is standard output")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("-f,--force", options.force, "Overwrite existing outputs");
  app.add_option(
         "--strategy", options.strategy,
         "flow: optimal in the model, unless the referee finds another plan faster; bfs: the "
         "paper's Algorithm 1; none")
      ->check(CLI::IsMember({"flow", "bfs", "none"}))
      ->capture_default_str();
  app.add_option("--budget", options.budget,
                 "Cache that prefetches may fill, as 32MiB (default: the device's)")
      ->type_name("SIZE");
  app.add_option("--rank", options.rank, "Rank to plan for (default: the lowest recorded)")
      ->type_name("N");
  app.add_option("--link", options.link,
                 "Plan for a stand-in network link that lengthens every collective, as 200us")
      ->type_name("LATENCY")
      ->capture_default_str();
  app.add_option(
         "--windows", options.windows,
         "collective: prefetch during collectives; idle: also while operators leave memory idle")
      ->check(CLI::IsMember({"collective", "idle"}))
      ->capture_default_str();
  app.add_option("--candidates", options.candidates,
                 "Plans in the schedule for replay to choose from")
      ->check(CLI::Range(1, 8))
      ->type_name("K")
      ->capture_default_str();
  app.add_option("--method", options.method,
                 "Prefetch method of the device file (default: its first)")
      ->type_name("NAME");
  app.add_option("--min-prefetch", options.min_prefetch, "Smallest piece worth a request")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--window-cost", options.window_cost, "Fixed cost of using a window at all")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--bfs-scope", options.bfs_scope,
                 "bfs: budget per window, or one running over the step")
      ->check(CLI::IsMember({"window", "running"}))
      ->capture_default_str();
  app.add_option("--bfs-full", options.bfs_full,
                 "bfs: first tensor that does not fit stops the window, or is skipped")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
  add_workload_options(app, options.workload);
  app.add_flag("--explain", options.explain, "Print the plan window by window on standard output");
  app.add_option("--dimacs", options.dimacs,
                 "Write the flow problem in DIMACS form, for glpsol --mincost")
      ->type_name("FILE");
  app.add_option("--seed", options.seed,
                 "Kept in the schedule; the planner itself leaves nothing to chance")
      ->check(CLI::Range(uint64_t{0}, static_cast<uint64_t>(kMaxJsonInteger)))
      ->type_name("N")
      ->capture_default_str();
}

// Longer ones are typing errors, and times of a schedule must stay exact in JSON.
constexpr int64_t kLongestLinkNs = 10'000'000'000;
constexpr int64_t kHighestWindowCostNs = 10'000'000;

int64_t duration_up_to(const char* option, const std::string& text, int64_t most_ns) {
  const int64_t ns = parse_duration_ns(text);
  if (ns <= most_ns) return ns;
  throw usage_error("{}: {} is too long, at most {} is possible", option, text,
                    format_duration(static_cast<double>(most_ns)));
}

PlanOptions plan_options(const TuneOptions& options) {
  PlanOptions plan;
  if (!options.budget.empty()) plan.problem.budget_bytes = parse_size_bytes(options.budget);
  plan.problem.windows = options.windows == "idle" ? WindowsMode::idle : WindowsMode::collective;
  plan.problem.link_latency_ns = duration_up_to("--link", options.link, kLongestLinkNs);
  plan.problem.method = options.method;
  plan.strategy = options.strategy == "flow"  ? Strategy::flow
                  : options.strategy == "bfs" ? Strategy::bfs
                                              : Strategy::none;
  plan.bfs.scope =
      options.bfs_scope == "running" ? BfsOptions::Scope::running : BfsOptions::Scope::window;
  plan.bfs.full = options.bfs_full == "skip" ? BfsOptions::Full::skip : BfsOptions::Full::stop;
  plan.candidates = options.candidates;
  plan.min_prefetch_bytes = parse_size_bytes(options.min_prefetch);
  plan.window_cost_ns = duration_up_to("--window-cost", options.window_cost, kHighestWindowCostNs);
  plan.seed = options.seed;
  return plan;
}

void check_inputs(const TuneOptions& options) {
  if (options.trace.empty() == !options.workload.given()) {
    throw usage_error(
        "name either a recording (preserve-tune trace.db --device device.json) or a model to plan "
        "for "
        "without one (--model config.json)");
  }
  if (options.device.empty()) {
    throw usage_error(
        "--device is missing: run preserve-calibrate -o device.json on the machine that will run "
        "the "
        "schedule, then pass --device device.json (examples/devices has published ones)");
  }
  for (const std::string& output : {options.output, options.dimacs}) {
    for (const std::string& input : {options.trace, options.device}) {
      std::error_code ignored;  // a file that does not exist is no input
      if (!output.empty() && output != "-" && fs::equivalent(output, input, ignored)) {
        throw usage_error("{} is an input: choose another name for the output", output);
      }
    }
  }
}

void summarise(const TuneOptions& options, const FoldedStep& step, const Schedule& schedule,
               Console& console) {
  const Plan& plan = schedule.plan;
  std::string text = fmt::format("{}: {}\n", plan.verdict, fmt::join(plan.reasons, "; "));
  if (options.explain) text = explain(step, schedule);
  if (options.output == "-") {
    console.info(text);  // standard output is the schedule
  } else {
    fmt::print("{}", text);
  }
}

// Losses of the recording are said first: whatever follows is worth no more than the recording.
FoldedStep load_step(const TuneOptions& options, const DeviceModel& device,
                     std::vector<std::string>& losses, Console& console) {
  if (options.workload.given()) return workload_step(options.workload, device, options.force);
  const TraceDb db = TraceDb::open(options.trace);
  losses = loss_sentences(db);
  for (const std::string& loss : losses) console.warn(loss);
  FoldedStep step = fold_step(db, options.rank);
  console.detail(fmt::format("{}: {} operators in the step, folded from {} of {} steps of rank {}",
                             options.trace, step.ops.size(), step.steps_used, step.steps_total,
                             step.rank));
  return step;
}

int tune(const TuneOptions& options, Console& console) {
  check_inputs(options);
  const PlanOptions plan = plan_options(options);
  OutputFile output(options.output, options.force);
  std::optional<OutputFile> dimacs;
  if (!options.dimacs.empty()) dimacs.emplace(options.dimacs, options.force);

  const DeviceModel device = load_device(options.device);
  std::vector<std::string> losses;
  const FoldedStep step = load_step(options, device, losses, console);
  Planned planned = make_schedule(step, device, plan);
  // What replay and apply will be given; a model that was not written as a trace has none.
  const std::string& trace = options.workload.given() ? options.workload.trace_out : options.trace;
  planned.schedule.trace_path = trace;
  if (!trace.empty()) planned.schedule.trace_sha256 = sha256_of_file(trace);

  for (const std::string& warning : planned.schedule.warnings) console.warn(warning);
  std::vector<std::string>& warnings = planned.schedule.warnings;
  warnings.insert(warnings.begin(), losses.begin(), losses.end());
  if (dimacs) dimacs->write(to_dimacs(planned.solved->problem));
  output.write(to_json(planned.schedule));
  summarise(options, step, planned.schedule, console);
  if (!output.is_stdout() && !trace.empty()) {
    console.next(fmt::format("preserve-replay {} {}", trace, options.output));
  }
  return kExitDone;
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  preserve::TuneOptions options;
  const preserve::ToolInfo info{
      "preserve-tune", "Finds the best cache prefetch schedule for a recorded decode step.",
      "Examples:\n"
      "  preserve-calibrate -o device.json\n"
      "  preserve-tune trace.db --device device.json\n"
      "  preserve-tune trace.db --device device.json --explain --link 200us -o slow-link.json\n"
      "  preserve-tune trace.db --device device.json --dimacs flow.min && glpsol --mincost "
      "flow.min\n"
      "\nSizes: 32MiB, 4MB; times: 200us, 1.5ms.\n"
      "Exit codes: 0 done (also when the verdict is do-nothing), 2 usage or bad input, 3 internal.",
      "trace schema 2, schedule 1.1, device 1.1"};
  return preserve::run_tool(
      argc, argv, info, [&](CLI::App& app) { preserve::define_options(app, options); },
      [&](preserve::Console& console) { return preserve::tune(options, console); });
}
