// SPDX-License-Identifier: Apache-2.0
#include "profiler/run/launch.h"
#include "common/shell_word.h"
#include "common/text.h"

#include <unistd.h>

#include <algorithm>
#include <new>

#include "common/environment.h"
#include "common/error.h"
#include "common/foreground_child.h"
#include "common/job_launcher.h"
#include "common/output_file.h"
#include "common/units.h"
#include "db/losses.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "profiler/convert/convert.h"
#include "profiler/convert/spool_folder.h"
#include "profiler/launcher_clock.h"
#include "profiler/run/clock_server.h"

namespace preserve {
namespace fs = std::filesystem;

namespace {

constexpr const char* kInjection = "NVTX_INJECTION64_PATH";
constexpr const char* kCudaInjection = "CUDA_INJECTION64_PATH";

void refuse_other_tools(const fs::path& library) {
  const std::string holder = environment_variable(kInjection);
  if (holder.empty()) return;
  std::error_code error;
  if (fs::equivalent(holder, library, error)) {
    throw usage_error("preserve-profile is running already around this command: use it only once");
  }
  throw usage_error(
      "{} is set to {}: another tool records NVTX, and there can be only one. Run "
      "without that tool, or: env -u {} preserve-profile ...",
      kInjection, holder, kInjection);
}

void refuse_other_cuda_tool() {
  const std::string holder = environment_variable(kCudaInjection);
  if (holder.empty()) return;
  throw usage_error(
      "{} is set to {}: another tool records CUDA, and there can be only one. Run without "
      "that tool, or with --cuda off",
      kCudaInjection, holder);
}

// Two ranks that write one file would destroy each other's.
void refuse_shared_output(const std::string& pattern) {
  const std::string world = launched_ranks();
  const bool apart =
      pattern.find("%r") != std::string::npos || pattern.find("%p") != std::string::npos;
  if (world.empty() || world == "1" || launched_rank().empty() || apart) return;
  throw usage_error(
      "{} ranks would all write {}: use -o trace.%r.db and merge the files afterwards, "
      "or put preserve-profile before the launcher: preserve-profile -- mpirun ...",
      world, pattern);
}

// A long run must not fill the disk of the program: `of_one` process, and what all leave free.
struct SpoolBounds {
  int64_t of_one, least_free;
};
SpoolBounds spool_bounds(const LaunchOptions& options, const fs::path& spool) {
  constexpr int64_t kMost = int64_t{8} << 30, kShareOfFree = 10, kShareLeft = 2;
  std::error_code error;
  const fs::space_info space = fs::space(spool, error);
  const int64_t free = error ? INT64_MAX / 2 : static_cast<int64_t>(space.available);
  const int64_t of_one = options.max_spool_bytes != 0
                             ? options.max_spool_bytes
                             : std::clamp(free / kShareOfFree, int64_t{1}, kMost);
  return {of_one, error ? 0 : std::clamp(free - of_one, int64_t{0}, free / kShareLeft)};
}

Variables collector_environment(const LaunchOptions& options, const fs::path& library,
                                const fs::path& spool) {
  const int64_t flush_ms = std::max<int64_t>(1, options.flush_period_ns / 1'000'000);
  const SpoolBounds bounds = spool_bounds(options, spool);
  Variables variables{{kInjection, library.string()},
                      {"PRESERVE_SPOOL_DIR", spool.string()},
                      {"PRESERVE_FLUSH_MS", std::to_string(flush_ms)},
                      {"PRESERVE_RING_BYTES", std::to_string(options.ring_bytes)},
                      {"PRESERVE_MAX_SPOOL", std::to_string(bounds.of_one)},
                      {"PRESERVE_LEAST_FREE", std::to_string(bounds.least_free)},
                      {"PRESERVE_KEEP_LAST", options.keep_last ? "1" : "0"},
                      {"PRESERVE_SAMPLE", std::to_string(options.sample)},
                      {"PRESERVE_ARGUMENTS", options.store_arguments ? "1" : "0"},
                      {"PRESERVE_MPI", options.mpi ? "1" : "0"}};
  const auto preloaded = preloading(library);
  variables.insert(variables.end(), preloaded.begin(), preloaded.end());
  if (options.cuda && PRESERVE_WITH_CUPTI) {
    variables.insert(variables.end(),
                     {{kCudaInjection, library.string()},
                      {"PRESERVE_CUDA", "1"},
                      {"PRESERVE_CUDA_PARAMS", options.cuda_params ? "1" : "0"},
                      {"PRESERVE_CUDA_WHOLE_GRAPHS", options.cuda_whole_graphs ? "1" : "0"},
                      {"PRESERVE_CUDA_HW_TRACE", options.cuda_hw_trace ? "1" : "0"},
                      {"PRESERVE_CUDA_COUNTERS", std::to_string(options.cuda_counters)},
                      {"PRESERVE_CUDA_RANGE", options.capture_range}});
  }
  if (options.torch) {
    const std::string before = environment_variable("PYTHONPATH");
    const std::string folder = (library.parent_path() / "torch").string();
    variables.emplace_back("PYTHONPATH", before.empty() ? folder : folder + ":" + before);
  }
  if (options.nccl_plugin) variables.emplace_back("NCCL_PROFILER_PLUGIN", library.string());
  return variables;
}

void explain_empty_recording(const fs::path& output, Console& console) {
  std::error_code error;
  const bool older = fs::exists(output, error);
  console.warn(
      std::string("nothing was recorded: no process made an NVTX or MPI call that the collector "
                  "saw. Usual reasons: the program has no NVTX ranges and no MPI calls; it uses an "
                  "MPI library that is neither Open MPI nor of MPICH's kind; it is "
                  "linked statically or to another C library (musl); its environment was stripped "
                  "on the way (sudo, env -i, a "
                  "container, a remote host: LD_PRELOAD, NVTX_INJECTION64_PATH and PRESERVE_* must "
                  "arrive); NVTX was compiled out (NVTX_DISABLE); with --torch, Python was started "
                  "with -I, "
                  "-E or -S, or the program has no torch. No trace was written") +
      (older ? fmt::format("; the older {} is kept.", output.string()) : "."));
}

// Of a process without a proper end. A command that ended well makes a full disk as likely as a
// crash.
std::string why_incomplete(const fs::path& spool, bool ended_well) {
  std::string text = "a process ended without closing it (killed, crashed or interrupted)";
  if (ended_well) {
    std::error_code error;
    const fs::space_info space = fs::space(spool, error);
    text += fmt::format(", or the disk under {} was full ({} free now)", spool.string(),
                        error ? "unknown" : format_size(space.available));
  }
  return text;
}

void report_findings(const ConvertSummary& summary, const std::string& output,
                     const std::string& incomplete, Console& console) {
  for (const std::string& loss : summary.losses) console.warn("lost: " + loss);
  for (const std::string& warning : summary.warnings) console.warn(warning);
  for (const std::string& note : summary.notes) console.info(note);
  if (!summary.complete) {
    console.warn("the recording is incomplete: " + incomplete +
                 "; everything up to its last flush was recorded");
  }
  const int64_t steps = summary.steps.all();
  console.info(
      fmt::format("{}: {} processes, {} ranges, {} operators, {} collectives, {} tensors, "
                  "{} steps",
                  output, summary.processes, summary.ranges, summary.operators, summary.collectives,
                  summary.tensors, steps));
  if (steps == 0 && !summary.counters) {
    console.warn(
        "no decode step was found, and only steps can be planned: annotate the step with an NVTX "
        "range decode_step, name its range with --step-range, say with --step-collectives how many "
        "collectives it has, or record more steps");
  }
  if (summary.steps.detected > 0) {
    console.warn(fmt::format(
        "{} are guessed from the period of the collectives: annotate the step with an NVTX range "
        "decode_step, or say with --step-collectives how many collectives it has",
        count_of(summary.steps.detected, "step")));
  }
}

// Ranks of a job on several hosts whose recording did not arrive here.
void report_missing(const TraceDb& db, const LaunchOptions& options, Console& console) {
  const std::string ranks = missing_ranks(db);
  if (ranks.empty() || options.command.empty() ||
      job_launcher(options.command.front()) == JobLauncher::none) {
    return;
  }
  std::string text = fmt::format("ranks {} sent nothing", ranks);
  std::vector<std::string> silent;
  for (const std::string& host : named_hosts(options.command)) {
    const std::string name = host.substr(0, host.find('.'));
    if (!db.query_integer("SELECT 1 FROM process WHERE host = ?1 OR host LIKE ?1 || '.%'",
                          {name})) {
      silent.push_back(host);
    }
  }
  if (!silent.empty()) {
    text += fmt::format("; no process of {} did",
                        printable(fmt::format("{}", fmt::join(silent, ", "))));
  }
  console.warn(text +
               ": each host needs preserve at the same path as here and a folder for the recording "
               "that it shares with this one (--keep-spool)");
}

std::string where_it_is(const fs::path& spool, const fs::path& output) {
  return fmt::format(
      "the recording is kept; make its trace with: preserve-profile --convert {} -o {}",
      shell_word(spool.string()), shell_word(output.string()));
}

// Returns false when there was nothing to convert.
bool convert(const fs::path& folder, OutputFile& output, const LaunchOptions& options,
             const ChildResult& child, Console& console) {
  const std::vector<fs::path> files = spool_files(folder);
  ConvertOptions convert_options;
  convert_options.unwritten = unwritten_files(folder);
  if (files.empty() && !convert_options.unwritten.empty()) {
    console.warn(fmt::format(
        "lost: {} could not be written (a limit on the size of files or on processes, a full disk)",
        count_of(static_cast<int64_t>(convert_options.unwritten.size()), "recording")));
  }
  if (files.empty()) return false;
  convert_options.steps = options.steps;
  convert_options.kernel_rules = options.kernel_rules;
  convert_options.interrupted = child.interrupted;
  convert_options.progress = [&console](double done, double total) {
    console.progress("converting", done, total);
  };
  ConvertSummary summary;
  std::string next;
  {
    const EndOnSignal guard(output.temporary_path().string(),
                            fmt::format("\n{}\n", where_it_is(folder, output.path())));
    TraceDb db = TraceDb::create(output.temporary_path());
    summary = convert_spools(files, db, convert_options);
    next = next_command(db, output.path().string());
    db.finish();
    console.clear_progress();
    output.commit();
  }
  const bool ended_well = !child.interrupted && child.exit_code < 128;
  report_findings(summary, output.path().string(), why_incomplete(folder, ended_well), console);
  const TraceDb trace = TraceDb::open(output.path());
  report_missing(trace, options, console);
  report_quality(trace, console);
  if (options.cuda_counters != 0 && !summary.counters) {
    console.warn(
        "--counters: no kernel was counted, so this is a recording of times; the program used no "
        "GPU, or a warning above explains why its counters could not be read");
  }
  console.next(next);
  return true;
}

}  // namespace

std::string expand_output_name(const std::string& pattern) {
  std::string name;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      name += pattern[i];
      continue;
    }
    const char what = ++i < pattern.size() ? pattern[i] : '\0';
    if (what == '%') {
      name += '%';
    } else if (what == 'p') {
      name += std::to_string(::getpid());
    } else if (what == 'h') {
      const std::string host = host_name();
      name += host.empty() ? "unknown" : host;
    } else if (what == 'r') {
      const std::string rank = launched_rank();
      if (rank.empty()) {
        throw usage_error(
            "-o {}: %r needs a rank, and no launcher gave one (OMPI_COMM_WORLD_RANK, "
            "PMI_RANK, RANK, SLURM_PROCID, PMIX_RANK)",
            pattern);
      }
      name += rank;
    } else {
      throw usage_error("-o {}: after % may stand p (pid), h (host), r (rank) or %", pattern);
    }
  }
  return name;
}

int profile_command(const LaunchOptions& options, Console& console) {
  const Program program = find_program(options.command.front());
  if (program.code != 0) {
    return cannot_run(options.command.front(), program.error, program.code, console);
  }
  const fs::path library =
      child_library(options.touch ? "libpreserve_touch.so" : "libpreserve_collect.so");
  refuse_other_tools(library);
  if (options.cuda) refuse_other_cuda_tool();
  if (options.cuda && !PRESERVE_WITH_CUPTI && fs::exists("/proc/driver/nvidia")) {
    console.warn("GPU activity is not recorded: this was built without CUPTI (CUDA 13.0 or newer)");
  }
  if (options.keep_last && options.cuda && fs::exists("/proc/driver/nvidia")) {
    throw usage_error(
        "--keep last is for ranges and MPI calls: what GPU activity refers to would be lost with "
        "the oldest records. Use --cuda off, or --capture-range to record a part of the run");
  }
  refuse_shared_output(options.output);
  if (options.cuda_counters != 0 && !launched_ranks().empty() && launched_ranks() != "1") {
    console.warn(
        "--counters lets kernels run one by one; kernels that communicate between ranks are left "
        "out, but ranks that wait for each other in another way may stand still. One rank is "
        "enough when all do the same");
  }
  const std::string name = expand_output_name(options.output);
  require_file(name, "a trace");
  OutputFile output(name, options.force);
  const JobLauncher launcher = job_launcher(options.command.front());
  SpoolFolder spool =
      options.keep_spool.empty()
          ? SpoolFolder::temporary(output.path(), on_several_hosts(launcher, options.command))
          : SpoolFolder::kept(options.keep_spool);
  auto variables = collector_environment(options, library, spool.path());
  if (loading_of(program.path) == Loading::other_library) {
    console.warn(
        fmt::format("{} runs on another C library than this tool: nothing of it is recorded",
                    printable(program.path)));
    variables.clear();
  }
  std::optional<ClockServer> clock;
  if (launcher != JobLauncher::none) {
    clock.emplace();
    variables.emplace_back(launcher_clock::kVariable, clock->variable());
  }
  const ChildResult child = run_child(passing_on(options.command, launcher, variables), variables);
  clock.reset();
  if (!child.started) {
    return cannot_run(program.path, child.error, child.exit_code, console);
  }
  const int code = child.result();
  try {
    if (!convert(spool.path(), output, options, child, console)) {
      explain_empty_recording(output.path(), console);
    }
  } catch (const std::exception& failure) {
    // Our failure must neither hide the command's own result nor cost the recording.
    const bool no_memory = dynamic_cast<const std::bad_alloc*>(&failure) != nullptr;
    console.error(fmt::format(
        "{}\n{}", no_memory ? "not enough memory to convert the recording" : failure.what(),
        where_it_is(spool.path(), output.path())));
    return code != 0 ? code : kLauncherFailed;
  }
  spool.remove();
  return code;
}

int convert_folder(const std::string& folder, const LaunchOptions& options, Console& console) {
  if (!fs::is_directory(folder)) throw usage_error("{}: is not a folder of spools", folder);
  const std::string name = expand_output_name(options.output);
  require_file(name, "a trace");
  OutputFile output(name, options.force);
  if (!convert(folder, output, options, ChildResult{}, console)) {
    throw input_error("{}: holds no *.spool file", folder);
  }
  return kExitDone;
}

}  // namespace preserve
