// SPDX-License-Identifier: Apache-2.0
#include "replay/replay_command.h"

#include <CLI/CLI.hpp>

#include "common/cli_options.h"
#include "common/enum_words.h"
#include "common/error.h"
#include "common/fail_if.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "db/step/quality.h"
#include "db/trace_db.h"
#include "replay/cpu/replay.h"
#include "replay/gpu/replay.h"
#include "replay/measure/summary.h"
#include "replay/ranks/entry.h"
#include "replay/ranks/quiet.h"
#include "replay/step/transport.h"

namespace preserve {
const char* to_string(Collectives collectives) {
  constexpr const char* kWords[] = {"automatic", "nccl", "stand-in"};
  return word_of(kWords, collectives);
}

namespace {

std::map<std::string, std::string> meta_of(const ReplayArguments& arguments, const ReplayJob& job) {
  const Schedule& schedule = job.schedule;
  return {
      {"trace_path", arguments.request.trace},
      {"trace_sha256", schedule.trace_sha256},
      {"schedule_path", arguments.request.schedule},
      {"schedule_sha256", sha256_of_file(arguments.request.schedule)},
      {"strategy", to_string(schedule.plan.strategy)},
      {"plan_verdict", to_string(schedule.plan.verdict)},
      {"schedule_device_name", schedule.device_name},
      {"tensor_bytes", std::to_string(job.program.tensor_bytes)},
  };
}

bool recorded_on_gpu(const std::string& trace) {
  return TraceDb::open(trace)
      .query_integer("SELECT 1 FROM device WHERE kind = 'gpu' LIMIT 1")
      .has_value();
}

// The number of the GPU to run on; nothing: this host's cores.
std::optional<int> gpu_of(const ReplayArguments& arguments) {
  const DeviceChoice& device = arguments.device;
  const bool gpu = device.kind == DeviceChoice::Kind::automatic
                       ? recorded_on_gpu(arguments.request.trace)
                       : device.kind == DeviceChoice::Kind::gpu;
  return gpu ? std::optional(device.ordinal) : std::nullopt;
}

void refuse_gpu_options(const ReplayArguments& arguments) {
  for (const auto& [given, option] :
       {std::pair{arguments.collectives != Collectives::automatic, "--collective"},
        std::pair{arguments.allow_device_mismatch, "--allow-device-mismatch"}}) {
    if (given) throw usage_error("{} is for GPUs, and this replay runs on the processor", option);
  }
}

std::unique_ptr<GpuDevice> open_gpu(const ReplayWorld& world, int ordinal) {
  try {
    return world.open_gpu(ordinal);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    throw input_error(
        "{}; --device cpu replays on the cores of this machine instead, where the schedule was "
        "planned with their device.json",
        error.what());
  }
}

// Real collectives need a GPU per rank; one rank has none to talk to.
bool uses_nccl(const ReplayArguments& arguments, int ordinal, int64_t ranks,
               const ReplayWorld& world) {
  const int64_t gpus = world.count_gpus() - ordinal;
  if (arguments.collectives == Collectives::automatic) return ranks > 1 && gpus >= ranks;
  if (arguments.collectives == Collectives::stand_in) return false;
  if (gpus < ranks) {
    throw input_error(
        "--collective nccl needs a GPU for each of {}, and from cuda:{} on there {} {}: "
        "--collective stand-in measures on one",
        count_of(ranks, "rank"), ordinal, gpus == 1 ? "is" : "are", std::max<int64_t>(gpus, 0));
  }
  return ranks > 1;
}

void require_ranks(const ReplayArguments& arguments, int64_t wanted, const Ranks& ranks) {
  if (wanted == ranks.size()) return;
  throw input_error("{} was recorded with {}, but {} were started", arguments.request.trace,
                    count_of(wanted, "rank"), ranks.size());
}

ReplayRecord measure_on_cpu(const ReplayArguments& arguments, const ReplayJob& job,
                            const Ranks& ranks) {
  const HostCores host = find_host_cores();
  const CpuPlan plan = plan_for_cpu(job, arguments.request, host);
  require_ranks(arguments, job.schedule.ranks, ranks);
  require_memory(plan, ranks.size_on_host());
  ranks.barrier();  // all have looked at the free memory before one takes some
  return replay_on_cpu(ranks, job, plan, arguments.request, host, arguments.measure);
}

ReplayRecord measure_on_gpu(Console& console, const ReplayArguments& arguments, int ordinal,
                            const ReplayJob& job, const Ranks& ranks, const ReplayWorld& world) {
  GpuReplay how;
  // Ranks on several hosts have a GPU each of their own host's.
  how.nccl =
      ranks.size() > 1 || (job.schedule.ranks > 1 && arguments.collectives == Collectives::nccl);
  if (how.nccl) {
    require_ranks(arguments, job.schedule.ranks, ranks);
    if (arguments.collectives == Collectives::stand_in) {
      throw input_error(
          "with stand-ins for the collectives one process is enough: start preserve-replay once, "
          "without a launcher");
    }
  }
  how.allow_device_mismatch = arguments.allow_device_mismatch;
  std::optional<DeviceModel> fits;
  if (!arguments.device_file.empty()) fits = load_device(arguments.device_file);
  how.fits = fits ? &*fits : nullptr;
  const std::unique_ptr<GpuDevice> device =
      open_gpu(world, ordinal + (how.nccl ? ranks.rank_on_host() : 0));
  return replay_on_gpu(ranks, *device, job, arguments.request, how, arguments.measure,
                       [&](const std::string& text) { console.info(text); });
}

// What always runs, however short the limit, must fit into a few times of it.
void require_time(const ReplayJob& job, int64_t limit_ns) {
  constexpr int64_t kAlwaysAllowedNs = 10'000'000'000;
  const int64_t least_ns = least_time_ns(job);
  if (least_ns > std::max(kAlwaysAllowedNs, checked_mul(4, limit_ns, "time limit"))) {
    throw usage_error(
        "invalid --time-limit {}: the steps that always run take at least {} with the times of "
        "this trace and schedule",
        format_duration(limit_ns), format_duration(least_ns));
  }
}

// Where the ranks were started by somebody else their environment is as it is.
void warn_of_transport(Console& console, const Transport& transport) {
  for (const std::string& text : transport.warnings) console.warn(text);
  for (const std::string& text : transport.missing) {
    console.warn("another transport than recorded: not set here: " + printable(text, 160));
  }
}

// In each rank process; rank 0 writes the file.
int measure_on_rank(Console& console, const ReplayArguments& arguments, const ReplayWorld& world,
                    const std::filesystem::path& target, bool joined) {
  return run_as_rank(console, [&](Ranks& ranks) {
    const std::optional<int> gpu = gpu_of(arguments);
    // A lone process on a GPU replays the planned rank, however many ranks there were.
    const bool planned_rank = gpu && ranks.size() == 1;
    ReplayJob job = load_job(arguments.request,
                             planned_rank ? std::nullopt : std::optional<int64_t>(ranks.rank()));
    if (planned_rank) job.recorded_step_ns = job.program.step_ns;  // there is no slower one
    if (joined) require_time(job, arguments.measure.time_limit_ns);
    if (joined && ranks.rank() == 0) {
      const TraceDb trace = TraceDb::open(arguments.request.trace);
      for (const std::string& text : job.losses) console.warn(text);
      report_quality(trace, console);
      if (!gpu) warn_of_transport(console, compare_transport(trace, job.schedule.rank));
    }
    ReplayRecord record = gpu ? measure_on_gpu(console, arguments, *gpu, job, ranks, world)
                              : measure_on_cpu(arguments, job, ranks);
    if (ranks.rank() != 0) return kExitDone;
    for (const auto& [key, value] : meta_of(arguments, job)) record.meta[key] = value;
    if (!gpu) {
      const std::string other =
          other_mpi_library(TraceDb::open(arguments.request.trace), ranks.library());
      if (!other.empty()) record.result.warnings.push_back(other);
    }
    if (!arguments.request.candidates) record.result.winner.clear();
    write_replay_db(target, record, job.program, job.schedule);
    return kExitDone;
  });
}

// --fail-if
int check(Console& console, const ReplayArguments& arguments, const ReplayResult& result) {
  if (const std::string reason = undecided_reason(result); !reason.empty()) {
    console.error("check failed: not decided: " + reason);
    return kExitCheckFailed;
  }
  const double share = *arguments.fail_if_slower;
  const Interval speedup = *result.find_arm(kPrefetchArm)->speedup->interval();
  if (!surely_slower(speedup, share)) return kExitDone;
  console.error(
      fmt::format("check failed: slower than {:g} %: the measured speedup is {:.3f} to {:.3f}",
                  100 * share, speedup.low, speedup.high));
  return kExitCheckFailed;
}

int finish(Console& console, const ReplayArguments& arguments, OutputFile& output) {
  const ReplayResult result = read_result(TraceDb::open(output.temporary_path()));
  for (const std::string& warning : result.warnings) console.warn(warning);
  fmt::print("{}", summary_of(result));
  output.commit();
  console.next(fmt::format("preserve-report {} {} {} -o report.html",
                           shell_word(arguments.request.trace),
                           shell_word(arguments.request.schedule), shell_word(arguments.output)));
  return arguments.fail_if_slower ? check(console, arguments, result) : kExitDone;
}

struct Start {
  RankLaunch launch;
  std::string text;  // for the console: what is about to happen; empty: the ranks print it
  int64_t cores_needed = 0, cores = 0;  // of this host
};

Start start_on_cpu(Console& console, const ReplayArguments& arguments, const ReplayJob& job) {
  const HostCores host = find_host_cores();
  const CpuPlan plan = plan_for_cpu(job, arguments.request, host);
  const int64_t ranks = job.schedule.ranks;
  require_cores(plan, arguments.request, host, ranks);
  require_memory(plan, ranks);
  if (ranks > static_cast<int64_t>(host.cores.size())) {
    console.warn(fmt::format("{} ranks share {}; timings are meaningless (oversubscribed)", ranks,
                             count_of(host.cores.size(), "usable core")));
  }
  Start start;
  start.text = fmt::format(
      "measuring {} arms on {} for up to {}, {} per rank", job.arms.size(), count_of(ranks, "rank"),
      format_duration(arguments.measure.time_limit_ns), format_size(plan.memory_bytes));
  start.launch.ranks = static_cast<int>(ranks);
  start.cores = static_cast<int64_t>(host.cores.size());
  start.cores_needed = ranks * (plan.needs_spare_core ? 2 : 1);
  start.launch.crowded = ranks > start.cores;
  return start;
}

Start start_on_gpu(const ReplayArguments& arguments, int ordinal, const ReplayJob& job,
                   const ReplayWorld& world) {
  if (world.count_gpus() <= ordinal) open_gpu(world, ordinal);  // throws what is missing
  Start start;
  if (uses_nccl(arguments, ordinal, job.schedule.ranks, world)) {
    start.launch.ranks = static_cast<int>(job.schedule.ranks);
  }
  return start;
}

int launch(Console& console, const ReplayArguments& arguments, const ReplayWorld& world,
           OutputFile& output) {
  const std::optional<int> gpu = gpu_of(arguments);
  const ReplayJob job = load_job(arguments.request, std::nullopt);
  for (const std::string& text : job.losses) console.warn(text);
  report_quality(TraceDb::open(arguments.request.trace), console);
  require_time(job, arguments.measure.time_limit_ns);
  Start start =
      gpu ? start_on_gpu(arguments, *gpu, job, world) : start_on_cpu(console, arguments, job);
  const MeasurementLock lock([&](const std::string& text) { console.info(text); });
  if (!start.text.empty()) console.info(start.text);
  if (!gpu) {
    Transport transport = compare_transport(TraceDb::open(arguments.request.trace),
                                            job.schedule.rank, arguments.launch.mpirun);
    for (const std::string& text : transport.warnings) console.warn(text);
    for (const std::string& text : transport.missing) console.info("as recorded: " + text);
    start.launch.environment = std::move(transport.missing);
    wait_for_quiet(console, start.cores_needed, start.cores, arguments.launch.quiet_patience_ns);
  }
  start.launch.mpirun_options = arguments.launch.mpirun;
  const int64_t limit_ns = arguments.measure.time_limit_ns;
  start.launch.patience_ns = patience_ns(checked_add(limit_ns, least_time_ns(job), "time limit"));
  start.launch.arguments = worker_arguments(arguments.words, output.temporary_path());
  start.launch.waiting = progress_of(console, limit_ns);
  const int code = world.run_ranks(start.launch);
  console.clear_progress();
  if (code != 0) return code;
  return finish(console, arguments, output);
}

// Started by an MPI launcher: this is one of the ranks, rank 0 owns the output.
int join(Console& console, const ReplayArguments& arguments, const ReplayWorld& world, int rank) {
  std::optional<OutputFile> output;
  std::optional<MeasurementLock> lock;
  if (rank == 0) {
    output.emplace(arguments.output, arguments.force);
    lock.emplace([&](const std::string& text) { console.info(text); });
  }
  const int code = measure_on_rank(console, arguments, world,
                                   output ? output->temporary_path().string() : "", true);
  if (code != kExitDone || !output) return code;
  return finish(console, arguments, *output);
}

}  // namespace

void define_replay(CLI::App& app, ReplayArguments& arguments) {
  app.add_option("trace", arguments.request.trace, "The recording (trace.db)")->required();
  app.add_option("schedule", arguments.request.schedule, "The plan made from it (schedule.json)")
      ->required();
  app.add_option("-o,--output", arguments.output, "Where to write")->capture_default_str();
  app.add_flag("-f,--force", arguments.force, "Replace an existing output");
  app.add_option_function<std::string>(
         "--device", [&](const std::string& text) { arguments.device = parse_device(text); },
         "Where to run: cpu, cuda:N, or auto: where the recording was made")
      ->default_str("auto");
  app.add_option("--collective", arguments.collectives,
                 "On GPUs: nccl (one process per GPU), or stand-in: kernels that last as long, on "
                 "one GPU [nccl where there are as many GPUs as ranks]")
      ->transform(as_choice({Collectives::nccl, Collectives::stand_in}));
  app.add_option(
         "--device-file", arguments.device_file,
         "device.json with fits of collectives, or a name from examples/devices; arm overlap of "
         "stand-ins needs them")
      ->transform(as_shipped_file("devices"));
  app.add_flag("--allow-device-mismatch", arguments.allow_device_mismatch,
               "Run a schedule on another kind of GPU than it was planned for");
  app.add_option("--link", arguments.request.link_latency_ns,
                 "Latency of a stand-in for a network link, 200us; must be the one the schedule "
                 "was planned for [the schedule's]")
      ->transform(as_duration_ns());
  app.add_flag("--candidates", arguments.request.candidates,
               "Measure the schedule's other candidates too, and name the winner");
  app.add_flag("--other-recording", arguments.request.other_recording,
               "The schedule may be from another recording of the same program: its operators are "
               "found by path and occurrence");
  app.add_option("--time-limit", arguments.measure.time_limit_ns, "Measure at most this long")
      ->transform(as_duration_ns(1))
      ->default_str("15s");
  app.add_flag("--oversubscribe", arguments.request.oversubscribe,
               "Run more ranks than cores: shows that it works, measures nothing");
  app.add_option_function<std::string>(
      "--fail-if", [&](const std::string& text) { arguments.fail_if_slower = parse_slower(text); },
      "slower=N%: exit 1 when the prefetch arm is slower by more than N % with its whole "
      "confidence interval, or there is none");
  define_launch_options(app, arguments.launch);
  app.add_option("--worker", arguments.worker)->group("");
}

int run_replay(Console& console, const ReplayArguments& arguments, const ReplayWorld& world) {
  if (!arguments.worker.empty()) {
    end_with_parent();
    return measure_on_rank(console, arguments, world, arguments.worker, false);
  }
  check_launch_options(arguments.launch, arguments.words);
  require_file(arguments.output, "replay.db");
  refuse_input_as_output(arguments.output, {arguments.request.trace, arguments.request.schedule,
                                            arguments.device_file});
  if (!gpu_of(arguments)) refuse_gpu_options(arguments);
  load_schedule(arguments.request.schedule);  // wrong inputs before a taken output
  if (!arguments.device_file.empty()) load_device(arguments.device_file);
  if (const auto launcher = find_launcher()) return join(console, arguments, world, launcher->rank);
  OutputFile output(arguments.output, arguments.force);
  return launch(console, arguments, world, output);
}

}  // namespace preserve
