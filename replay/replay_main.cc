// SPDX-License-Identifier: Apache-2.0
// preserve-replay: trace.db + schedule.json -> replay.db, measured on this machine.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/cli.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "replay/cpu_replay.h"
#include "replay/grid/grid_main.h"
#include "replay/launch.h"
#include "replay/rank_main.h"
#include "replay/replay_job.h"
#include "replay/summary.h"

namespace preserve {
namespace {

struct Arguments {
  std::string trace, schedule;
  std::string output = "replay.db";
  bool force = false;
  std::string link;  // empty: the schedule's
  bool candidates = false;
  bool oversubscribe = false;
  std::string time_limit = "15s";
  uint64_t seed = 1;
  std::string fail_if;
  std::string worker;  // where the rank processes write
};

void define(CLI::App& app, Arguments& arguments) {
  app.add_option("trace", arguments.trace, "The recording (trace.db)")->required();
  app.add_option("schedule", arguments.schedule, "The plan made from it (schedule.json)")
      ->required();
  app.add_option("-o,--output", arguments.output, "Where to write")->capture_default_str();
  app.add_flag("-f,--force", arguments.force, "Replace an existing output");
  app.add_option("--link", arguments.link,
                 "Latency of a stand-in for a network link, 200us; must be the one the schedule "
                 "was planned for [the schedule's]");
  app.add_flag("--candidates", arguments.candidates,
               "Measure the schedule's other candidates too, and name the winner");
  app.add_option("--time-limit", arguments.time_limit, "Measure at most this long")
      ->capture_default_str();
  app.add_flag("--oversubscribe", arguments.oversubscribe,
               "Run more ranks than cores: shows that it works, measures nothing");
  app.add_option("--seed", arguments.seed, "Of the bootstrap")->capture_default_str();
  app.add_option("--fail-if", arguments.fail_if,
                 "slower=PCT: exit 1 when the prefetch arm is slower by more than PCT percent");
  app.add_option("--worker", arguments.worker)->group("");
}

ReplayRequest request_of(const Arguments& arguments) {
  ReplayRequest request;
  request.trace = arguments.trace;
  request.schedule = arguments.schedule;
  if (!arguments.link.empty()) request.link_latency_ns = parse_duration_ns(arguments.link);
  request.candidates = arguments.candidates;
  request.oversubscribe = arguments.oversubscribe;
  return request;
}

// "slower=2%" or "slower=2" -> 2.
std::optional<double> tolerated_slowdown(const std::string& condition) {
  if (condition.empty()) return std::nullopt;
  const std::string prefix = "slower=";
  if (condition.rfind(prefix, 0) == 0) {
    const std::string value = condition.substr(prefix.size());
    char* end = nullptr;
    const double percent = std::strtod(value.c_str(), &end);
    const std::string_view rest(end);
    if (end != value.c_str() && (rest.empty() || rest == "%") && percent >= 0 && percent < 100) {
      return percent;
    }
  }
  throw usage_error("--fail-if takes slower=PCT with PCT from 0 to 100, not \"{}\"",
                    printable(condition));
}

std::map<std::string, std::string> meta_of(const Arguments& arguments, const ReplayJob& job) {
  const Schedule& schedule = job.schedule;
  return {
      {"trace_path", arguments.trace},
      {"trace_sha256", schedule.trace_sha256},
      {"schedule_path", arguments.schedule},
      {"schedule_sha256", sha256_of_file(arguments.schedule)},
      {"strategy", schedule.plan.strategy},
      {"plan_verdict", schedule.plan.verdict},
      {"link_latency_ns", std::to_string(schedule.link_latency_ns)},
      {"schedule_device_name", schedule.device_name},
      {"tensor_bytes", std::to_string(job.program.tensor_bytes)},
      {"planned_bytes_per_step", std::to_string(job.arms[1].planned_bytes)},
  };
}

// In each rank process; rank 0 writes the file.
int measure_on_rank(Console& console, const Arguments& arguments,
                    const std::filesystem::path& target, bool joined) {
  return run_as_rank(console, [&](Ranks& ranks) {
    const ReplayRequest request = request_of(arguments);
    const HostCores host = find_host_cores();
    const ReplayJob job = load_job(request, ranks.rank());
    const CpuPlan plan = plan_for_cpu(job, request, host);
    if (job.schedule.ranks != ranks.size()) {
      throw input_error("{} was recorded with {}, but {} were started", arguments.trace,
                        count_of(job.schedule.ranks, "rank"), ranks.size());
    }
    if (joined && ranks.rank() == 0) {
      for (const std::string& text : job.losses) console.warn(text);
    }
    require_memory(plan, ranks.size_on_host());
    ranks.barrier();  // all have looked at the free memory before one takes some
    MeasureOptions options;
    options.time_limit_ns = parse_duration_ns(arguments.time_limit);
    options.seed = arguments.seed;
    ReplayRecord record = replay_on_cpu(ranks, job, plan, request, host, options);
    if (ranks.rank() != 0) return kExitDone;
    for (const auto& [key, value] : meta_of(arguments, job)) record.meta[key] = value;
    if (!arguments.candidates) record.outcome.winner.clear();
    write_replay_db(target, record, job.program, job.schedule);
    return kExitDone;
  });
}

int finish(Console& console, const Arguments& arguments, OutputFile& output) {
  {
    const TraceDb replay = TraceDb::open(output.temporary_path());
    for (const auto& warning : nlohmann::json::parse(replay.meta("warnings"))) {
      console.warn(warning.get<std::string>());
    }
    fmt::print("{}", summary_of(replay));
  }
  output.commit();
  console.next(fmt::format("preserve-report {} {} {} -o report.html", arguments.trace,
                           arguments.schedule, arguments.output));
  const std::optional<double> tolerated = tolerated_slowdown(arguments.fail_if);
  if (!tolerated) return kExitDone;
  const TraceDb replay = TraceDb::open(output.path());
  const std::string speedup = replay.meta("prefetch_speedup");
  if (speedup.empty()) {
    console.error("--fail-if: no pair of samples was counted, so nothing can be said");
    return kExitCheckFailed;
  }
  if (std::strtod(speedup.c_str(), nullptr) >= 1 - *tolerated / 100) return kExitDone;
  console.error(
      fmt::format("--fail-if {}: the measured speedup is {}", arguments.fail_if, speedup));
  return kExitCheckFailed;
}

int launch(Console& console, const Arguments& arguments, OutputFile& output) {
  const ReplayRequest request = request_of(arguments);
  const HostCores host = find_host_cores();
  const ReplayJob job = load_job(request, std::nullopt);
  const CpuPlan plan = plan_for_cpu(job, request, host);
  for (const std::string& text : job.losses) console.warn(text);
  const int64_t ranks = job.schedule.ranks;
  require_cores(plan, request, host, ranks);
  require_memory(plan, ranks);
  if (ranks > static_cast<int64_t>(host.cores.size())) {
    console.warn(fmt::format("{} ranks on {}: they take turns, so nothing is measured", ranks,
                             count_of(host.cores.size(), "usable core")));
  }
  const MeasurementLock lock([&](const std::string& text) { console.info(text); });
  console.info(fmt::format("measuring {} arms on {} for up to {}, {} per rank", job.arms.size(),
                           count_of(ranks, "rank"), arguments.time_limit,
                           format_size(static_cast<double>(plan.memory_bytes))));
  std::vector<std::string> words{arguments.trace, arguments.schedule,
                                 "--worker",      output.temporary_path().string(),
                                 "--time-limit",  arguments.time_limit,
                                 "--seed",        std::to_string(arguments.seed),
                                 "--color",       "never"};
  if (arguments.candidates) words.emplace_back("--candidates");
  if (arguments.oversubscribe) words.emplace_back("--oversubscribe");
  RankLaunch start;
  start.ranks = static_cast<int>(ranks);
  start.crowded = ranks > static_cast<int64_t>(host.cores.size());
  start.patience_ns = patience_ns(
      checked_add(parse_duration_ns(arguments.time_limit), least_time_ns(job), "time limit"));
  start.arguments = std::move(words);
  if (const int code = run_ranks(start); code != 0) return code;
  return finish(console, arguments, output);
}

// Started by somebody's launcher: every rank is here, rank 0 owns the output.
int join(Console& console, const Arguments& arguments, int rank) {
  std::optional<OutputFile> output;
  std::optional<MeasurementLock> lock;
  if (rank == 0) {
    output.emplace(arguments.output, arguments.force);
    lock.emplace([&](const std::string& text) { console.info(text); });
  }
  const int code =
      measure_on_rank(console, arguments, output ? output->temporary_path().string() : "", true);
  if (code != kExitDone || !output) return code;
  return finish(console, arguments, *output);
}

int run(Console& console, const Arguments& arguments) {
  if (!arguments.worker.empty()) {
    end_with_parent();
    return measure_on_rank(console, arguments, arguments.worker, false);
  }
  if (parse_duration_ns(arguments.time_limit) == 0) {
    throw usage_error("--time-limit must be longer than 0");
  }
  tolerated_slowdown(arguments.fail_if);  // refused now rather than after the run
  if (arguments.output == "-") throw usage_error("replay.db is a database: -o needs a file name");
  if (const auto launcher = find_launcher()) return join(console, arguments, launcher->rank);
  OutputFile output(arguments.output, arguments.force);
  return launch(console, arguments, output);
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  using namespace preserve;
  if (wants_grid(argc, argv)) return grid_main(argc, argv);
  Arguments arguments;
  ToolInfo info;
  info.name = "preserve-replay";
  info.purpose = "Measure a schedule: rebuild the recorded step and run it with and without.";
  info.footer =
      "Examples:\n"
      "  preserve-replay trace.db schedule.json -o replay.db\n"
      "  preserve-replay trace.db schedule.json -o replay.db --candidates --time-limit 60s\n"
      "  preserve-replay trace.db schedule.json -o replay.db --fail-if slower=1%\n"
      "  mpirun -n 2 preserve-replay trace.db schedule.json -o replay.db\n"
      "  preserve-replay --grid --device-file device.json   many generated steps; see --grid "
      "--help\n"
      "\n"
      "Exit codes: 0 done, 1 --fail-if came true, 2 usage or bad input, 3 internal error.";
  info.versions = "trace schema 2, schedule 1.1";
  return run_tool(
      argc, argv, info, [&](CLI::App& app) { define(app, arguments); },
      [&](Console& console) { return run(console, arguments); });
}
