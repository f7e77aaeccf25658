// SPDX-License-Identifier: Apache-2.0
// preserve-profile: run -> trace.db. Chooses the mode; each mode is a file pair of its own.
#include <CLI/CLI.hpp>

#include "common/error.h"
#include "common/units.h"
#include "db/trace_db.h"
#include "profiler/capture_range.h"
#include "profiler/cuda_records.h"
#include "profiler/files/add_counters.h"
#include "profiler/files/file_modes.h"
#include "profiler/files/merge.h"
#include "profiler/run/launch.h"
#include "profiler/spool.h"

namespace {

using namespace preserve;

constexpr const char* kFooter = R"(Examples:
  preserve-profile -o trace.db -- ./server --port 8000
  preserve-profile -- mpirun -n 2 ./tp_decoder --config model.json
  mpirun -n 2 preserve-profile -o trace.%r.db -- ./tp_decoder --config model.json
  preserve-profile --merge trace.0.db trace.1.db -o trace.db
  preserve-profile --counters dram,l2 --capture-range steps:50 -o counters.db -- ./server
  preserve-profile --add-counters trace.db counters.db -o both.db
  preserve-profile --import rank0.json.gz rank1.json.gz -o trace.db
  preserve-profile --summary trace.db
  preserve-profile --export chrome trace.db -o trace.json.gz

Records NVTX ranges, marks, payloads and memory regions, and MPI communication (Open MPI), of the
command and of everything it starts, through NVTX_INJECTION64_PATH and LD_PRELOAD; of CUDA programs
also kernels, copies, graphs, allocations and collectives (docs/cuda.md), through
CUDA_INJECTION64_PATH. On several hosts the environment must reach the ranks: mpirun -x LD_PRELOAD
-x NVTX_INJECTION64_PATH -x CUDA_INJECTION64_PATH -x PRESERVE_SPOOL_DIR with a shared --keep-spool folder, or one preserve-profile per rank.

Exit codes: those of the command, 128+N when signal N killed it, 130 after Ctrl-C; 2 bad usage;
125 preserve-profile failed; 126 the command cannot be executed; 127 it was not found.)";

struct Modes {
  LaunchOptions launch;
  std::string flush_period = "100ms", ring_size = "1MiB";
  std::string counters;
  std::string cuda = "auto", params = "on", cuda_graphs = "node";
  std::vector<std::string> merge, add_counters;
  std::string convert;
  FileModes files;
};

void define(CLI::App& app, Modes& modes) {
  app.add_option("-o,--output", modes.launch.output,
                 "Trace to write; %p is the pid, %h the host, %r the rank")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("-f,--force", modes.launch.force, "Overwrite an existing output");
  app.add_option("--flush-period", modes.flush_period,
                 "How often records go to disk: what a killed process may lose")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--ring-size", modes.ring_size,
                 "Memory per recording thread; raise it when records were dropped")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_flag_callback(
      "--no-mpi", [&modes] { modes.launch.mpi = false; }, "Do not record MPI calls");
  app.add_option("--cuda", modes.cuda,
                 "Record GPU activity through CUPTI, where the program uses CUDA")
      ->check(CLI::IsMember({"auto", "off"}))
      ->capture_default_str();
  app.add_option("--params", modes.params, "Parameters of kernels: which memory each one is given")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--cuda-graphs", modes.cuda_graphs,
                 "CUDA graphs: every node, or a launch as a whole")
      ->check(CLI::IsMember({"node", "graph"}))
      ->capture_default_str();
  app.add_flag("--cuda-hw-trace", modes.launch.cuda_hw_trace,
               "Let the GPU write the records (Blackwell and newer)");
  app.add_option("--counters", modes.counters,
                 "Instead of times: bytes that each kernel moves, as in dram,l2. Kernels run one "
                 "by one meanwhile, so the trace is not to be planned from")
      ->type_name("dram,l2");
  app.add_flag(
      "--nccl-plugin", modes.launch.nccl_plugin,
      "Ask NCCL (2.26 and newer) itself for type, sequence number and algorithm of collectives");
  app.add_option(
         "--capture-range", modes.launch.capture_range,
         "When GPU activity is recorded: whole, profiler (cudaProfilerStart to Stop), nvtx:NAME, "
         "time:DELAY[:LENGTH], steps:N[:NAME] (every N-th step)")
      ->type_name("RANGE")
      ->capture_default_str();
  app.add_option("--step-range", modes.launch.step_globs,
                 "Name of the range that is a decode step, with * and ? (repeatable)")
      ->type_name("GLOB")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  app.add_option("--keep-spool", modes.launch.keep_spool, "Keep the raw recording in this folder")
      ->type_name("DIR");
  app.add_option("--convert", modes.convert, "No run: make the trace from a kept folder")
      ->type_name("DIR");
  app.add_option("--merge", modes.merge, "No run: put the traces of several ranks into one")
      ->type_name("FILE...");
  app.add_option("--add-counters", modes.add_counters,
                 "No run: a trace together with what a recording with --counters counted of the "
                 "same program")
      ->type_name("TRACE COUNTERS")
      ->expected(2);
  modes.files.define(app);
  app.prefix_command();
}

// prefix_command() takes everything from the first word that it does not know; a mistyped option
// must not pass as the command.
std::vector<std::string> command_of(std::vector<std::string> rest) {
  if (!rest.empty() && rest.front() == "--") {
    rest.erase(rest.begin());
  } else if (!rest.empty() && rest.front().substr(0, 1) == "-") {
    throw usage_error("unknown option {}\nTry 'preserve-profile --help'.", rest.front());
  }
  return rest;
}

// Times in the collector's unit: time:30s:1m -> time:30000:60000.
std::string capture_range(const std::string& text) {
  std::string out = text;
  if (text.rfind("time:", 0) == 0) {
    const size_t colon = text.find(':', 5);
    out = fmt::format("time:{}", parse_duration_ns(text.substr(5, colon - 5)) / 1'000'000);
    if (colon != std::string::npos) {
      out += fmt::format(":{}", parse_duration_ns(text.substr(colon + 1)) / 1'000'000);
    }
  }
  if (!cuda::CaptureRange().parse(out)) {
    throw usage_error(
        "--capture-range {}: whole, profiler, nvtx:NAME, time:DELAY[:LENGTH] or "
        "steps:N[:NAME], as in time:30s:10s or steps:100:decode_step",
        text);
  }
  return out;
}

// dram,l2 -> groups; 0: no --counters.
uint32_t counter_groups(const Modes& modes, bool given) {
  if (!given) return 0;
  uint32_t groups = 0;
  std::string_view rest = modes.counters;
  while (true) {
    const size_t comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    const uint32_t group = word == "dram" ? +cuda::kDramCounters
                           : word == "l2" ? +cuda::kL2Counters
                                          : 0u;
    if (group == 0 || (groups & group) != 0) {
      throw usage_error("--counters {}: dram, l2 or dram,l2", modes.counters);
    }
    groups |= group;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (modes.cuda == "off") throw usage_error("--counters counts on the GPU: not with --cuda off");
  if (modes.launch.cuda_hw_trace || modes.cuda_graphs == "graph") {
    throw usage_error(
        "--counters is a recording of its own, without times: not with --cuda-hw-trace or "
        "--cuda-graphs graph");
  }
  return groups;
}

int dispatch(Modes& modes, const CLI::App& app, Console& console) {
  modes.launch.flush_period_ns = parse_duration_ns(modes.flush_period);
  modes.launch.ring_bytes = parse_size_bytes(modes.ring_size);
  if (modes.launch.flush_period_ns < 1'000'000 || modes.launch.flush_period_ns > 3600'000'000'000) {
    throw usage_error("--flush-period {}: from 1ms to 3600s", modes.flush_period);
  }
  if (modes.launch.ring_bytes < 4096 || modes.launch.ring_bytes > (int64_t{1} << 30)) {
    throw usage_error("--ring-size {}: from 4KiB to 1GiB", modes.ring_size);
  }
  modes.launch.kernel_rules = modes.files.kernel_rules;
  modes.launch.cuda = modes.cuda == "auto";
  modes.launch.cuda_params = modes.params == "on";
  modes.launch.cuda_whole_graphs = modes.cuda_graphs == "graph";
  modes.launch.cuda_counters = counter_groups(modes, app.count("--counters") != 0);
  modes.launch.capture_range = capture_range(modes.launch.capture_range);
  modes.launch.command = command_of(app.remaining());
  const bool without_run = !modes.merge.empty() || !modes.add_counters.empty() ||
                           !modes.convert.empty() || modes.files.requested();
  if (without_run && !modes.launch.command.empty()) {
    throw usage_error("a mode without a run takes no command, but '{}' was given",
                      modes.launch.command.front());
  }
  if (modes.files.requested()) {
    const std::string output = app.count("--output") != 0 ? modes.launch.output : std::string();
    return modes.files.run(output, modes.launch.force, modes.launch.step_globs, console);
  }
  if (!modes.merge.empty())
    return merge_traces(modes.merge, modes.launch.output, modes.launch.force, console);
  if (!modes.add_counters.empty()) {
    return add_counters(modes.add_counters[0], modes.add_counters[1], modes.launch.output,
                        modes.launch.force, console);
  }
  if (!modes.convert.empty()) return convert_folder(modes.convert, modes.launch, console);
  if (modes.launch.command.empty()) {
    throw usage_error("no command given\nTry 'preserve-profile --help'.");
  }
  return profile_command(modes.launch, console);
}

}  // namespace

int main(int argc, char** argv) {
  Modes modes;
  CLI::App* parsed = nullptr;
  const ToolInfo info{
      "preserve-profile", "Record a real run into trace.db", kFooter,
      fmt::format("trace schema {}, spool {}", kTraceSchemaVersion, spool::kVersion),
      "[OPTIONS] [--] COMMAND [ARGUMENT...]"};
  return run_tool(
      argc, argv, info,
      [&](CLI::App& app) {
        parsed = &app;
        define(app, modes);
      },
      [&](Console& console) { return dispatch(modes, *parsed, console); });
}
