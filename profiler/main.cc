// SPDX-License-Identifier: Apache-2.0
// preserve-profile: run -> trace.db. Running a command is what it does; kModes is what it does
// instead, each on files of its own.
#include <CLI/CLI.hpp>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/units.h"
#include "db/trace_db.h"
#include "profiler/capture_range.h"
#include "profiler/cuda_records.h"
#include "profiler/export/chrome.h"
#include "profiler/files/add_counters.h"
#include "profiler/files/import_with_model.h"
#include "profiler/files/merge.h"
#include "profiler/import/import.h"
#include "profiler/run/launch.h"
#include "profiler/spool.h"
#include "profiler/summary/summary.h"

namespace {

using namespace preserve;

constexpr const char* kFooter = R"(Examples:
  preserve-profile -o trace.db -- ./server --port 8000
  preserve-profile -- mpirun -n 2 ./tp_decoder --config model.json
  mpirun -n 2 preserve-profile -o trace.%r.db -- ./tp_decoder --config model.json
  preserve-profile --torch -- python serve.py
  preserve-profile --merge trace.0.db trace.1.db -o trace.db
  preserve-profile --counters dram,l2 --capture-range steps:50 -o counters.db -- ./server
  preserve-profile --add-counters trace.db counters.db -o both.db
  preserve-profile --import rank0.json.gz rank1.json.gz -o trace.db
  preserve-profile --import rank0.json.gz rank1.json.gz --model config.json --device h200
  preserve-profile --summary trace.db
  preserve-profile --export chrome trace.db -o trace.json.gz

Records NVTX ranges, marks, payloads and memory regions, and MPI communication (Open MPI, and
MPICH and its kind: Intel MPI, MVAPICH, Cray MPICH; from C, Fortran and Python), of the
command and of everything it starts, through NVTX_INJECTION64_PATH and LD_PRELOAD; of CUDA programs
also kernels, copies, graphs, allocations and collectives (docs/cuda.md), through
CUDA_INJECTION64_PATH. In front of mpirun, mpiexec or srun it records the ranks of all hosts on one
clock; they need preserve at the same path and share the folder of the output (docs/hosts.md).

Exit codes: those of the command, 128+N when signal N killed it, 130 after Ctrl-C; 2 bad usage;
125 preserve-profile failed; 126 the command cannot be executed; 127 it was not found.)";

struct Arguments {
  LaunchOptions launch;
  bool output_given = false;
  bool partial = false;
  WorkloadOptions model;  // of an imported trace
  std::string device;
  std::string schedule;
  std::map<std::string, std::vector<std::string>> files;  // of each mode, by its option
};

struct Mode {
  const char* option;
  const char* files;
  int count;  // of files, 0: one or more
  const char* help;
  int (*run)(const std::vector<std::string>& files, const Arguments& given, Console& console);
};

constexpr Mode kModes[] = {
    {"--convert", "DIR", 1, "Make the trace from a recording that was kept",
     [](const auto& files, const auto& given, Console& console) {
       return convert_folder(files[0], given.launch, console);
     }},
    {"--merge", "FILE...", 0, "Put the traces of several ranks into one",
     [](const auto& files, const auto& given, Console& console) {
       return merge_traces(files, given.launch.output, given.launch.force, console);
     }},
    {"--add-counters", "TRACE COUNTERS", 2,
     "A trace together with what a recording with --counters counted of the same program",
     [](const auto& files, const auto& given, Console& console) {
       return add_counters(files[0], files[1], given.launch.output, given.launch.force, console);
     }},
    {"--import", "FILE...", 0,
     "Make the trace from PyTorch profiler JSON (.json, .gz, .zst), Nsight Systems SQLite exports "
     "and NCCL inspector logs; several files are the ranks of one run, or captures of its graphs",
     [](const auto& files, const auto& given, Console& console) {
       import::ImportOptions options{.partial = given.partial};
       options.files.assign(files.begin(), files.end());
       options.kernel_rules.assign(given.launch.kernel_rules.begin(),
                                   given.launch.kernel_rules.end());
       options.steps = given.launch.steps;
       if (given.model.given()) {
         return import_with_model(options, given.model, given.device, given.launch.output,
                                  given.launch.force, console);
       }
       return import::run_import(options, given.launch.output, given.launch.force, console);
     }},
    {"--summary", "TRACE", 1, "Print what is in a trace",
     [](const auto& files, const auto&, Console& console) {
       return summary::run_summary(files[0], console);
     }},
    {"--export", "FORMAT TRACE", 2,
     "Write a trace for another viewer; FORMAT is chrome (ui.perfetto.dev, .json or .json.gz)",
     [](const auto& files, const auto& given, Console& console) {
       std::filesystem::path output = given.launch.output;
       if (!given.output_given) {
         output = std::filesystem::path(files[1]).replace_extension(".json");
       }
       std::optional<std::filesystem::path> schedule;
       if (!given.schedule.empty()) schedule = given.schedule;
       return exporter::run_export(files[1], files[0], schedule, output, given.launch.force,
                                   console);
     }},
};

// Times in the collector's unit: time:30s:1m -> time:30000:60000.
std::string capture_range(const std::string& text) {
  std::string out = text;
  if (text.starts_with("time:")) {
    const size_t colon = text.find(':', 5);
    out = fmt::format("time:{}", parse_duration_ns(text.substr(5, colon - 5)) / 1'000'000);
    if (colon != std::string::npos) {
      out += fmt::format(":{}", parse_duration_ns(text.substr(colon + 1)) / 1'000'000);
    }
  }
  if (!cuda::CaptureRange().parse(out)) {
    throw usage_error(
        "invalid --capture-range '{}': expected whole, profiler, nvtx:NAME, time:DELAY[:LENGTH] or "
        "steps:N[:NAME], as in time:30s:10s or steps:100:decode_step",
        text);
  }
  return out;
}

// An option that takes one of these words.
template <typename Value>
CLI::Option* add_choice(CLI::App& app, const char* name, Value& value,
                        const std::map<std::string, Value>& words, const char* help) {
  return app.add_option_function<std::string>(
      name,
      [&value, name, words](const std::string& word) {
        const auto chosen = words.find(word);
        if (chosen == words.end()) {
          std::vector<std::string> known;
          known.reserve(words.size());
          for (const auto& [each, meaning] : words) known.push_back(each);
          throw usage_error("invalid {} '{}': expected {}{}", name, word, fmt::join(known, " or "),
                            did_you_mean(word, known));
        }
        value = chosen->second;
      },
      help);
}

// An option that takes a size from 4 KiB on.
CLI::Option* add_size(CLI::App& app, const char* name, int64_t& bytes, int64_t most_bytes,
                      const char* expected, const char* help) {
  const auto read = [=, &bytes](const std::string& text) {
    bytes = parse_size_bytes(text);
    if (bytes < 4096 || bytes > most_bytes) {
      throw usage_error("invalid {} '{}': expected {}", name, text, expected);
    }
  };
  return app.add_option_function<std::string>(name, read, help)->type_name("SIZE");
}

// An option that may be given several times, each time with one value.
CLI::Option* add_repeatable(CLI::App& app, const char* name, std::vector<std::string>& values,
                            const char* help) {
  return app.add_option(name, values, help)->take_all()->expected(1)->allow_extra_args(false);
}

void define_recording(CLI::App& app, LaunchOptions& launch) {
  app.add_option("--flush-period", launch.flush_period_ns,
                 "How often records go to disk: what a killed process may lose")
      ->transform(as_duration_ns(1'000'000, 3600'000'000'000))
      ->type_name("TIME")
      ->default_str("100ms");
  add_size(app, "--ring-size", launch.ring_bytes, int64_t{1} << 30, "4KiB to 1GiB",
           "Memory per recording thread; raise it when records were dropped")
      ->default_str("1MiB");
  add_size(app, "--max-spool", launch.max_spool_bytes, INT64_MAX, "at least 4KiB",
           "Disk for the raw recording of one process; what does not fit is dropped and counted. "
           "All together leave half of the free disk")
      ->default_str("10 % of the free disk, at most 8GiB");
  add_choice(app, "--keep", launch.keep_last, {{"first", false}, {"last", true}},
             "Of a recording that reaches --max-spool: the oldest or the newest records")
      ->type_name("first|last")
      ->default_str("first");
  app.add_flag("--sample{1000}", launch.sample,
               "Of ranges that come in a hot loop record a part: of each name, thread and flush "
               "period the first 1000 (--sample=N: N), then one of 100; the rest is counted")
      ->check(CLI::Range(1, INT32_MAX));
  app.add_flag_callback(
      "--no-mpi", [&launch] { launch.mpi = false; }, "Do not record MPI calls");
  app.add_flag(
         "--touch", launch.touch,
         "Find out which allocations are read between MPI calls, for programs that do not name "
         "their memory: by page protection, which costs time (said at the end); x86-64 alone")
      ->excludes(app.get_option("--no-mpi"));
  app.add_flag(
      "--torch", launch.torch,
      "Record PyTorch programs without a change to them: the path of each module as a "
      "range, weights, buffers and KV caches as named memory, collectives of gloo; through "
      "PYTHONPATH");
  add_choice(app, "--cuda", launch.cuda, {{"auto", true}, {"off", false}},
             "Record GPU activity through CUPTI, where the program uses CUDA")
      ->type_name("auto|off")
      ->default_str("auto");
  add_choice(app, "--params", launch.cuda_params, {{"on", true}, {"off", false}},
             "Parameters of kernels: which memory each one is given")
      ->type_name("on|off")
      ->default_str("on");
  add_choice(app, "--cuda-graphs", launch.cuda_whole_graphs, {{"node", false}, {"graph", true}},
             "CUDA graphs: every node, or a launch as a whole")
      ->type_name("node|graph")
      ->default_str("node");
  app.add_flag("--cuda-hw-trace", launch.cuda_hw_trace,
               "Let the GPU write the records (Blackwell and newer)");
  const uint32_t both = cuda::kDramCounters | cuda::kL2Counters;
  add_choice(app, "--counters", launch.cuda_counters,
             {{"dram", cuda::kDramCounters},
              {"l2", cuda::kL2Counters},
              {"dram,l2", both},
              {"l2,dram", both}},
             "Instead of times: bytes that each kernel moves, as in dram,l2. Kernels run one by "
             "one meanwhile, so the trace is not to be planned from")
      ->type_name("dram,l2");
  app.add_flag(
      "--nccl-plugin", launch.nccl_plugin,
      "Ask NCCL (2.26 and newer) itself for type, sequence number and algorithm of collectives");
  app.add_option_function<std::string>(
         "--capture-range",
         [&launch](const std::string& text) { launch.capture_range = capture_range(text); },
         "When GPU activity is recorded: whole, profiler (cudaProfilerStart to Stop), nvtx:NAME, "
         "time:DELAY[:LENGTH], steps:N[:NAME] (every N-th step)")
      ->type_name("RANGE");
  app.add_flag("--store-arguments", launch.store_arguments,
               "Store the command lines with all values that are not known to be secrets, not "
               "only program and option names");
  app.add_option("--keep-spool", launch.keep_spool, "Keep the raw recording in this folder")
      ->type_name("DIR");
}

void define(CLI::App& app, Arguments& given) {
  LaunchOptions& launch = given.launch;
  CLI::Option* output = app.add_option("-o,--output", launch.output,
                                       "Trace to write; %p is the pid, %h the host, %r the rank")
                            ->type_name("FILE")
                            ->capture_default_str();
  app.add_flag("-f,--force", launch.force, "Overwrite an existing output");
  define_recording(app, launch);
  add_repeatable(app, "--step-range", launch.steps.decode_globs,
                 "Name of the range that is a decode step, with * and ? (repeatable)")
      ->type_name("GLOB");
  app.add_option("--step-collectives", launch.steps.collectives,
                 "A step has this many collectives, whatever ranges say")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}))
      ->type_name("N");
  add_choice(app, "--period", launch.steps.by_period, {{"ranges", false}, {"auto", true}},
             "How steps are found: by ranges that name them, else guessed from the period of the "
             "sequence of collectives; auto: always guessed")
      ->type_name("ranges|auto")
      ->default_str("ranges");
  add_repeatable(app, "--kernel-rules", launch.kernel_rules,
                 "Lines 'PATTERN CLASS [FUNCTION]' that say what a GPU kernel is (repeatable)")
      ->type_name("FILE");
  for (const Mode& mode : kModes) {
    CLI::Option* option = app.add_option(mode.option, given.files[mode.option], mode.help);
    option->type_name(mode.files)->group("Instead of running a command");
    if (mode.count != 0) option->expected(mode.count);
  }
  app.add_flag("--partial", given.partial,
               "With --import: take what is readable of damaged files and count the losses")
      ->needs(app.get_option("--import"));
  CLI::Option* model =
      add_model_options(app, given.model,
                        "With --import: give the kernels of each step the weights and KV of this "
                        "Hugging Face config.json; or a name from examples/models")
          ->needs(app.get_option("--import"));
  app.add_option("--device", given.device,
                 "With --model: the device file of the recorded GPU, or a name from "
                 "examples/devices")
      ->transform(as_shipped_file("devices"))
      ->type_name("FILE|NAME")
      ->group("From a model")
      ->needs(model);
  app.add_option("--schedule", given.schedule,
                 "With --export: draw the prefetches of this schedule")
      ->type_name("FILE")
      ->needs(app.get_option("--export"));
  // Steps are found while a trace is made; a summary goes to standard output.
  for (const char* how : {"--step-range", "--step-collectives", "--period"}) {
    app.get_option("--summary")->excludes(app.get_option(how));
    app.get_option("--export")->excludes(app.get_option(how));
  }
  app.get_option("--summary")->excludes(output);
  app.prefix_command();
}

// prefix_command() takes everything from the first word that it does not know; a mistyped option
// must not pass as the command.
std::vector<std::string> command_of(const CLI::App& app) {
  std::vector<std::string> rest = app.remaining();
  if (!rest.empty() && rest.front() == "--") {
    rest.erase(rest.begin());
  } else if (!rest.empty() && rest.front().starts_with("-")) {
    throw usage_error("{}\nTry 'preserve-profile --help'.", unknown_option(app));
  }
  return rest;
}

int dispatch(Arguments& given, const CLI::App& app, Console& console) {
  LaunchOptions& launch = given.launch;
  given.output_given = app.count("--output") != 0;
  if (launch.cuda_counters != 0 &&
      (!launch.cuda || launch.cuda_hw_trace || launch.cuda_whole_graphs)) {
    throw usage_error(
        "--counters is a recording of its own, made on the GPU and without times: not with --cuda "
        "off, --cuda-hw-trace or --cuda-graphs graph");
  }
  launch.command = command_of(app);
  const Mode* chosen = nullptr;
  for (const Mode& mode : kModes) {
    if (app.count(mode.option) == 0) continue;
    if (chosen != nullptr) {
      throw usage_error("{} and {} are different things: give one", chosen->option, mode.option);
    }
    chosen = &mode;
  }
  if (chosen == nullptr) {
    if (launch.command.empty()) {
      throw usage_error("no command given\nTry 'preserve-profile --help'.");
    }
    return profile_command(launch, console);
  }
  if (!launch.command.empty()) {
    throw usage_error("{} runs no command, but '{}' was given", chosen->option,
                      launch.command.front());
  }
  return chosen->run(given.files.at(chosen->option), given, console);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments given;
  CLI::App* parsed = nullptr;
  const ToolInfo info{
      "preserve-profile", "Record a real run into trace.db", kFooter,
      fmt::format("trace schema {}, spool {}", kTraceSchemaVersion, spool::kVersion),
      "[OPTIONS] [--] COMMAND [ARGUMENT...]"};
  return run_tool(
      argc, argv, info,
      [&](CLI::App& app) {
        parsed = &app;
        define(app, given);
      },
      [&](Console& console) { return dispatch(given, *parsed, console); });
}
