// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate: this machine -> device.json.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "common/cli.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/private_folder.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/device.h"
#include "replay/calibrate/cpu.h"
#include "replay/calibrate/stability.h"
#include "replay/device_choice.h"
#include "replay/gpu/calibrate/calibrate.h"
#include "replay/ranks/entry.h"
#include "replay/ranks/launch.h"
#include "replay/ranks/quiet.h"

namespace preserve {
namespace {

constexpr int64_t kQuickTimeNs = 1'500'000'000;
constexpr int64_t kQuickGpuTimeNs = 15'000'000'000;

struct Arguments {
  std::string output = "device.json";
  bool force = false;
  int ranks = 0;  // 0: half the cores
  DeviceChoice device;
  bool quick = false;
  int64_t time_limit_ns = 0;  // 0: the usual one
  std::string published;      // a device file; empty: none
  LaunchOptions launch;
  std::string worker;              // where the rank processes write
  std::vector<std::string> words;  // the command line itself: workers get it once more
};

void define(CLI::App& app, Arguments& arguments) {
  app.add_option("-o,--output", arguments.output, "Where to write, - for standard output")
      ->capture_default_str();
  app.add_flag("-f,--force", arguments.force, "Replace an existing output");
  app.add_option("--ranks", arguments.ranks,
                 "Ranks that will share the cache; all are measured at once [half the cores]")
      ->check(CLI::Range(1, 4096));
  app.add_option_function<std::string>(
         "--device", [&](const std::string& text) { arguments.device = parse_device(text); },
         "What to measure: cpu, or cuda:N for a GPU")
      ->default_str("cpu");
  app.add_flag("--quick", arguments.quick, "Fewer repetitions: a tenth of the time");
  app.add_option("--time-limit", arguments.time_limit_ns,
                 "Of a measurement on cores; up to three times as long while its halves disagree")
      ->transform(as_duration_ns(1'000'000))
      ->default_str("10s")
      ->excludes("--quick");
  app.add_option("--published", arguments.published,
                 "Device file, or a name from examples/devices, with what one GPU cannot measure: "
                 "arithmetic rates, collectives")
      ->transform(as_shipped_file("devices"));
  define_launch_options(app, arguments.launch);
  app.add_option("--worker", arguments.worker)->group("");
}

void print_summary(const DeviceModel& device, FILE* stream) {
  const bool on_gpu = device.kind == "gpu";
  const std::string per_rank = on_gpu ? "" : ", per rank";
  const auto line = [&](const std::string& label, const std::string& text) {
    fmt::print(stream, "  {:<24}{}\n", label, text);
  };
  fmt::print(stream, "{}\n", device.name);
  if (!on_gpu) line("ranks measured at once", std::to_string(device.ranks));
  line("memory" + per_rank, format_rate(device.memory_bandwidth_bytes_per_s));
  line((on_gpu ? "L2" : "cache") + per_rank, format_rate(device.cache_read_bandwidth_bytes_per_s));
  const DeviceInterval* budget = find_interval(device, kBudgetFigure);
  line("cache budget" + per_rank,
       fmt::format("{}{} of {}{}", format_size(device.cache_budget_bytes),
                   budget == nullptr
                       ? ""
                       : fmt::format(" ({} to {})", format_size(static_cast<int64_t>(budget->low)),
                                     format_size(static_cast<int64_t>(budget->high))),
                   format_size(device.cache_bytes), on_gpu ? "" : " shared"));
  if (device.methods.empty()) {
    line("prefetching", "no method makes the reader faster");
    return;
  }
  const PrefetchMethod& best = device.methods.front();
  const std::string rate = format_rate(best.bandwidth_bytes_per_s);
  const std::string how =
      on_gpu ? fmt::format("in chunks of {} by {}, {} after {}", format_size(best.chunk_bytes),
                           count_of(best.ctas, "CTA"), rate, format_duration(best.start_latency_ns))
             : fmt::format("on the {} core, {}", best.placement, rate);
  line("best prefetch", fmt::format("{} {}, then read at {}", best.name, how,
                                    format_rate(best.hit_read_bandwidth_bytes_per_s)));
  if (device.verdict == "steady") line("verdict", "steady");
}

CalibrateOptions options_of(const Arguments& arguments) {
  CalibrateOptions options;
  if (arguments.time_limit_ns > 0) options.time_limit_ns = arguments.time_limit_ns;
  if (arguments.quick) {
    options.time_limit_ns = kQuickTimeNs;
    options.longest = 1;
  }
  return options;
}

// Refuses options that exclude each other and loads --published, before anything is measured.
std::optional<DeviceModel> check_gpu_arguments(const Arguments& arguments) {
  if (arguments.ranks > 0) {
    throw usage_error("--ranks is for --device cpu: a GPU is measured by one process");
  }
  const std::optional<Launcher> launcher = find_launcher();
  if (launcher && launcher->ranks.value_or(2) > 1) {
    throw usage_error(
        "a GPU is measured by one process: start preserve-calibrate --device cuda:{} "
        "without mpirun or srun",
        arguments.device.ordinal);
  }
  if (arguments.published.empty()) return std::nullopt;
  refuse_input_as_output(arguments.output, {arguments.published});
  return load_device(arguments.published);
}

// The next stage needs a recording as well.
std::string next_command(const Arguments& arguments) {
  std::error_code error;
  if (!std::filesystem::exists("trace.db", error)) {
    return "preserve-profile -o trace.db -- COMMAND";
  }
  return fmt::format("preserve-tune trace.db --device {} -o schedule.json",
                     shell_word(arguments.output));
}

void report(Console& console, const Arguments& arguments, const DeviceModel& device,
            bool to_stdout) {
  print_summary(device, to_stdout ? stderr : stdout);
  if (device.verdict == "unsteady") {
    console.warn(fmt::format("unsteady: {}: rerun on a quiet machine",
                             printable(device.verdict_reason, 300)));
  }
  if (!to_stdout) console.next(next_command(arguments));
}

int run_gpu(Console& console, const Arguments& arguments) {
  const int ordinal = arguments.device.ordinal;
  const std::optional<DeviceModel> published = check_gpu_arguments(arguments);
  if (published) check_published(*published, arguments.published);
  OutputFile output(arguments.output, arguments.force);
  // What is missing is reported at once, not after waiting for another measurement.
  if (count_cuda_devices() <= ordinal) open_cuda_device(ordinal);
  const MeasurementLock lock([&](const std::string& text) { console.info(text); });
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(ordinal);
  for (const std::string& busy : busy_sentences(gpu->state())) console.warn(busy);
  console.info(fmt::format("measuring {}", gpu->facts().name));
  GpuCalibrateOptions options;
  if (arguments.quick) {
    options.time_limit_ns = kQuickGpuTimeNs;
    options.every_chunk = false;
  }
  options.progress = [&](std::string_view phase, double done, double total) {
    console.progress(phase, done, total);
  };
  const GpuCalibrationSamples samples = measure_gpu(*gpu, options);
  console.clear_progress();
  DeviceModel device = device_from(samples);
  for (const std::string& warning : clock_warnings(samples)) console.warn(warning);
  if (published) {
    add_published(device, *published, arguments.published);
  } else {
    console.warn(
        "arithmetic rates and collectives are not in the file, for one GPU cannot measure them: "
        "plans of recordings need neither, preserve-tune --model needs the rates and "
        "--allreduce-time; or take them from --published NAME of examples/devices");
  }
  output.write(to_json(device));
  report(console, arguments, device, output.is_stdout());
  return kExitDone;
}

int64_t longest_ns(const CalibrateOptions& options) {
  return checked_mul(options.longest, options.time_limit_ns, "time limit");
}

// In each rank process; rank 0 writes.
int measure(Console& console, const Arguments& arguments, OutputFile* output) {
  return run_as_rank(console, [&](Ranks& ranks) {
    CalibrateOptions options = options_of(arguments);
    // Without a launching tool, which would show it, rank 0 does.
    if (output != nullptr) options.progress = progress_of(console, longest_ns(options));
    const std::vector<CalibrationSamples> rounds = measure_cpu(ranks, options);
    if (ranks.rank() != 0) return kExitDone;
    console.clear_progress();
    const DeviceModel device = judged_device(rounds);
    const std::string text = to_json(device);
    if (output != nullptr) {
      output->write(text);
      report(console, arguments, device, output->is_stdout());
    } else {
      OutputFile(arguments.worker, true).write(text);
    }
    return kExitDone;
  });
}

int launch(Console& console, const Arguments& arguments, OutputFile& output) {
  const HostCores host = find_host_cores();
  const auto cores = static_cast<int>(host.cores.size());
  const int ranks = arguments.ranks > 0 ? arguments.ranks : std::max(1, cores / 2);
  if (host.cores_in_affinity > cores) {
    console.warn(fmt::format("the CPU quota of this container pays for {} of {} cores; using {}",
                             cores, host.cores_in_affinity, cores));
  }
  if (ranks > cores) {
    console.warn(
        fmt::format("{} share {}: the result does not describe this "
                    "machine (oversubscribed)",
                    count_of(ranks, "rank"), count_of(cores, "usable core")));
  }
  const MeasurementLock lock([&](const std::string& text) { console.info(text); });
  wait_for_quiet(console, ranks, cores, arguments.launch.quiet_patience_ns);
  console.info(fmt::format("measuring {} with {} at once", host.cpu_name, count_of(ranks, "rank")));
  const bool to_stdout = output.is_stdout();
  std::optional<PrivateFolder> folder;
  if (to_stdout) folder.emplace("preserve-calibrate");
  const std::filesystem::path target =
      to_stdout ? folder->path() / "device.json" : output.temporary_path();
  const int64_t limit_ns = longest_ns(options_of(arguments));
  const int code = run_ranks({.ranks = ranks,
                              .crowded = ranks > cores,
                              .patience_ns = patience_ns(limit_ns),
                              .arguments = worker_arguments(arguments.words, target),
                              .mpirun_options = arguments.launch.mpirun,
                              .waiting = progress_of(console, limit_ns)});
  console.clear_progress();
  if (code != 0) return code;
  const DeviceModel device = load_device(target);
  if (to_stdout) {
    output.write(read_text_file(target));
  } else {
    output.commit();
  }
  report(console, arguments, device, to_stdout);
  return kExitDone;
}

int run(Console& console, const Arguments& arguments) {
  if (!arguments.worker.empty()) {
    end_with_parent();
    return measure(console, arguments, nullptr);
  }
  check_launch_options(arguments.launch, arguments.words);
  if (arguments.device.kind == DeviceChoice::Kind::automatic) {
    throw usage_error("--device auto is for replays: say cpu or cuda:N");
  }
  if (arguments.device.kind == DeviceChoice::Kind::gpu) return run_gpu(console, arguments);
  if (!arguments.published.empty()) {
    throw usage_error("--published is for a GPU: --device cuda:0");
  }
  const std::optional<Launcher> launcher = find_launcher();
  if (launcher && launcher->rank != 0) return measure(console, arguments, nullptr);
  OutputFile output(arguments.output, arguments.force);
  if (launcher) {
    if (arguments.ranks > 0 && launcher->ranks && arguments.ranks != *launcher->ranks) {
      throw usage_error("--ranks {} but the launcher started {}", arguments.ranks,
                        count_of(*launcher->ranks, "rank"));
    }
    const MeasurementLock lock([&](const std::string& text) { console.info(text); });
    return measure(console, arguments, &output);
  }
  return launch(console, arguments, output);
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  using namespace preserve;
  Arguments arguments;
  arguments.words.assign(argv + 1, argv + argc);
  const ToolInfo info{
      .name = "preserve-calibrate",
      .purpose = "Measure what caches, memory and prefetching of this machine can do.",
      .footer =
          "Examples:\n"
          "  preserve-calibrate -o device.json                 half the cores as ranks\n"
          "  preserve-calibrate --ranks 2 --quick -o device.json\n"
          "  mpirun -n 4 preserve-calibrate -o device.json     ranks placed by your launcher\n"
          "  preserve-calibrate --device cuda:0 --published h100-sxm\n"
          "\n"
          "Exit codes: 0 done, 2 usage or bad input, 3 internal error, 130 stopped by Ctrl-C.",
      .versions = fmt::format("device {}", kDeviceVersion)};
  return run_tool(
      argc, argv, info, [&](CLI::App& app) { define(app, arguments); },
      [&](Console& console) { return run(console, arguments); }, /*allow_no_arguments=*/true);
}
