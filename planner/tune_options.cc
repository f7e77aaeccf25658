// SPDX-License-Identifier: Apache-2.0
#include "planner/tune_options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "planner/measure/closed_loop.h"
#include "planner/schedule/json_document.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

// Longer ones are typing errors, and times of a schedule must stay exact in JSON.
constexpr int64_t kLongestLinkNs = 10'000'000'000;

int64_t duration_up_to(const char* option, const std::string& text, int64_t most_ns) {
  const int64_t ns = parse_duration_ns(text);
  if (ns <= most_ns) return ns;
  throw usage_error("{}: {} is too long, at most {} is possible", option, text,
                    format_duration(most_ns));
}

constexpr int64_t kLongestMeasureNs = int64_t{7 * 24 * 3600} * 1'000'000'000;

void check_inputs(const TuneOptions& options) {
  if (options.trace.empty() == !options.workload.given()) {
    throw usage_error(
        "name either a recording (preserve-tune trace.db --device device.json) or a model to plan "
        "for without one (--model config.json)");
  }
  if (options.device.empty()) {
    throw usage_error(
        "--device is missing: run preserve-calibrate -o device.json on the machine that will run "
        "the schedule, then pass --device device.json (examples/devices has published ones)");
  }
  std::set<fs::path> outputs;
  for (const std::string& name : {options.output, options.dimacs, options.workload.trace_out}) {
    if (name.empty()) continue;
    refuse_input_as_output(name, {options.trace, options.device, options.workload.model});
    if (!outputs.insert(fs::absolute(name).lexically_normal()).second) {
      throw usage_error("{} is named for two outputs: choose another name for one", name);
    }
  }
}

void check_measuring(const TuneOptions& options) {
  if (!options.measure) {
    const TuneOptions defaults;
    if (options.replay_words.empty() && options.keep_replays.empty() &&
        options.measure_time == defaults.measure_time && options.rounds == defaults.rounds) {
      return;
    }
    throw usage_error(
        "words behind --, --measure-time, --rounds and --keep-replays are for the replays of "
        "--measure, which is missing");
  }
  if (options.trace_file().empty()) {
    throw usage_error("--measure replays a recording: --model needs --trace-out FILE for that");
  }
  if (!options.dimacs.empty()) {
    throw usage_error(
        "--dimacs writes the problem behind one plan, --measure plans several times: use one of "
        "them");
  }
}

}  // namespace

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
  app.add_option("--window-cost", options.window_cost,
                 "Fixed cost of using a window at all (default: the device file's)")
      ->type_name("TIME");
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
  app.add_flag("--measure", options.measure,
               "Replay the plans and variants of the best one here, correct the device model by "
               "what that shows, plan again, keep the winner. Words behind -- go to "
               "preserve-replay");
  app.add_option("--measure-time", options.measure_time,
                 "Measure at most this long, in all replays")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds,
                 "Plan and replay at most this often; the winner is then measured once more")
      ->check(CLI::Range(1, kMostRounds))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--keep-replays", options.keep_replays,
                 "Keep what was replayed and measured in this folder")
      ->type_name("DIR");
  app.add_option("--seed", options.seed,
                 "Kept in the schedule; the planner itself leaves nothing to chance")
      ->check(CLI::Range(uint64_t{0}, static_cast<uint64_t>(kMaxJsonInteger)))
      ->type_name("N")
      ->capture_default_str();
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
  if (!options.window_cost.empty()) {
    plan.window_cost_ns = duration_up_to("--window-cost", options.window_cost, kMostWindowCostNs);
  }
  plan.seed = options.seed;
  return plan;
}

int64_t measure_time_ns(const TuneOptions& options) {
  const int64_t time_ns = duration_up_to("--measure-time", options.measure_time, kLongestMeasureNs);
  if (time_ns == 0) throw usage_error("--measure-time must be longer than 0");
  return time_ns;
}

void check_options(TuneOptions& options, std::vector<std::string> rest) {
  options.replay_words = std::move(rest);
  check_inputs(options);
  check_measuring(options);
}

}  // namespace preserve
