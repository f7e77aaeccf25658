// SPDX-License-Identifier: Apache-2.0
#include "planner/tune_options.h"

#include <CLI/CLI.hpp>
#include <set>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "planner/measure/closed_loop.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

// Longer ones are typing errors, and times of a schedule must stay exact in JSON.
constexpr int64_t kLongestLinkNs = 10'000'000'000;
constexpr int64_t kLongestMeasureNs = int64_t{7 * 24 * 3600} * 1'000'000'000;

void check_inputs(const TuneOptions& options) {
  if (options.trace.empty() && !options.workload.given()) {
    throw usage_error(
        "name a recording (preserve-tune trace.db --device device.json), a model to plan for "
        "without one (--model config.json), or both, if the recording does not say what its "
        "kernels read");
  }
  if (options.trace.empty() && options.phase) {
    throw usage_error("--phase chooses among recorded steps: a model alone makes a decode step");
  }
  if (options.aligns()) {
    const WorkloadOptions& workload = options.workload;
    const char* surplus = !workload.print.empty()             ? "--print"
                          : !workload.engine_overhead.empty() ? "--engine-overhead"
                          : workload.spec.allreduce_ns        ? "--allreduce-time"
                                                              : nullptr;
    if (surplus != nullptr) {
      throw usage_error("{} is for a model without a recording: {} has the times", surplus,
                        options.trace);
    }
  }
  if (options.device.empty()) {
    throw usage_error(
        "--device is missing: run preserve-calibrate -o device.json on the machine that will run "
        "the schedule, then pass --device device.json; published ones have names, as --device "
        "h100-sxm");
  }
  std::set<fs::path> outputs;
  for (const std::string& name : {options.output, options.dimacs, options.workload.trace_out}) {
    if (name.empty()) continue;
    refuse_input_as_output(name,
                           {options.trace, options.device, options.workload.model, options.learn});
    if (!outputs.insert(fs::absolute(name).lexically_normal()).second) {
      throw usage_error("two outputs have the name {}: choose another name for one", name);
    }
  }
}

void check_measuring(const TuneOptions& options) {
  if (!options.learn.empty() && options.trace.empty()) {
    throw usage_error("--learn needs the recording that the applied plan was made from");
  }
  if (!options.measure) {
    if (options.replays.replay_words.empty()) return;
    throw usage_error("words after -- are for preserve-replay, which only --measure runs");
  }
  if (options.shows_step()) {
    throw usage_error("--measure needs a plan: neither --print nor --tp 1 makes one");
  }
  if (options.trace_file().empty()) {
    throw usage_error("--measure replays a recording: --model needs --trace-out FILE for that");
  }
}

void define_planning(CLI::App& app, PlanOptions& plan) {
  app.add_option("--strategy", plan.strategy, kStrategiesInWords)
      ->transform(as_choice(kStrategies))
      ->type_name("WORD")
      ->capture_default_str();
  app.add_option("--budget", plan.problem.budget_bytes,
                 "Cache that prefetches may fill, as 32MiB (default: the device's)")
      ->transform(as_size_bytes())
      ->type_name("SIZE");
  app.add_option("--link", plan.problem.link_latency_ns,
                 "Plan for a stand-in network link that lengthens every collective, as 200us")
      ->transform(as_duration_ns(0, kLongestLinkNs))
      ->type_name("LATENCY")
      ->default_str("0");
  app.add_option(
         "--windows", plan.problem.windows,
         "When to prefetch. collective: during collectives; idle: also while operators leave "
         "memory idle, which may slow them down; auto: beside operators only where the "
         "device file says how much that slows them")
      ->transform(as_choice({WindowsMode::automatic, WindowsMode::collective, WindowsMode::idle}))
      ->type_name("WORD")
      ->capture_default_str();
  app.add_option("--candidates", plan.candidates, "Plans in the schedule for replay to choose from")
      ->check(CLI::Range(1, 8))
      ->type_name("K")
      ->capture_default_str();
  app.add_option(
         "--method", plan.problem.method,
         "Prefetch method of the device file, as load or load/spare (default: the first, or "
         "the first of the other placement where its step is 0.5 % shorter)")
      ->type_name("NAME");
  app.add_option("--min-prefetch", plan.min_prefetch_bytes, "Smallest piece worth a request")
      ->transform(as_size_bytes())
      ->type_name("SIZE")
      ->default_str(format_size(plan.min_prefetch_bytes));
}

void define_measuring(CLI::App& app, TuneOptions& options) {
  CLI::Option* measure =
      app.add_flag("--measure", options.measure,
                   "Replay the plans and variants of the best one here, correct the device model "
                   "by what that shows, plan again, keep the winner. Words after -- go to "
                   "preserve-replay");
  app.add_option("--measure-time", options.replays.time_ns,
                 "Measure at most this long, in all replays")
      ->transform(as_duration_ns(1, kLongestMeasureNs))
      ->type_name("TIME")
      ->default_str(format_duration(options.replays.time_ns))
      ->needs(measure);
  app.add_option("--rounds", options.replays.rounds,
                 "Plan and replay at most this often; the winner is then measured once more")
      ->check(CLI::Range(1, kMostRounds))
      ->type_name("N")
      ->capture_default_str()
      ->needs(measure);
  app.add_option("--keep-replays", options.replays.keep,
                 "Keep what was replayed and measured in this folder")
      ->type_name("DIR")
      ->needs(measure);
  app.add_option("--learn", options.learn,
                 "Correct the device model by what preserve-apply measured in the program with a "
                 "plan for this trace and device, then plan")
      ->type_name("APPLY.DB")
      ->excludes(measure);
  app.add_option("--dimacs", options.dimacs,
                 "Write the flow problem in DIMACS form, for glpsol --mincost")
      ->type_name("FILE")
      ->excludes(measure)
      ->group("Advanced");
}

}  // namespace

const char* to_string(PhaseChoice choice) {
  return choice == PhaseChoice::decode    ? "decode"
         : choice == PhaseChoice::prefill ? "prefill"
                                          : "any";
}

void define_options(CLI::App& app, TuneOptions& options) {
  app.add_option("trace", options.trace, "Recording made by preserve-profile")
      ->type_name("TRACE.db");
  app.add_option("--device", options.device,
                 "What the hardware can do: a file made by preserve-calibrate, or a name from "
                 "examples/devices, as h100-sxm")
      ->transform(as_shipped_file("devices"))
      ->type_name("FILE|NAME");
  app.add_option("-o,--output", options.output, "Schedule to write; - is standard output")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("-f,--force", options.force,
               "Overwrite existing outputs, and plan also from a recording that is too noisy or of "
               "another kind of device");
  app.add_option("--rank", options.rank,
                 "Rank to plan for (default: the one that waits least in collectives; with --model "
                 "the lowest)")
      ->type_name("N");
  app.add_option("--phase", options.phase,
                 "Steps to plan for: decode, prefill, or any, a schedule for each phase that was "
                 "recorded (default: decode, or prefill where nothing else was recorded)")
      ->transform(as_choice({PhaseChoice::decode, PhaseChoice::prefill, PhaseChoice::any}))
      ->type_name("WORD");
  define_planning(app, options.plan);
  add_workload_options(app, options.workload);
  app.add_flag(
      "--explain", options.explain,
      "Print the plan window by window on standard output, why each is not fuller, and the changes "
      "of hardware or program that would gain most (it plans again for each); with a model beside "
      "the trace also which kernel runs what of it");
  define_measuring(app, options);
}

void check_options(TuneOptions& options, std::vector<std::string> replay_words) {
  options.replays.replay_words = std::move(replay_words);
  if (options.aligns() && options.workload.trace_out.empty()) {
    const fs::path trace(options.trace);
    options.workload.trace_out =
        (trace.parent_path() / (trace.stem().string() + "-model.db")).string();
  }
  check_inputs(options);
  check_measuring(options);
}

}  // namespace preserve
