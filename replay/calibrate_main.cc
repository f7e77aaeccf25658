// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate: this machine -> device.json.
#include <fmt/format.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "common/cli.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "planner/device.h"
#include "replay/calibrate_cpu.h"
#include "replay/launch.h"
#include "replay/rank_main.h"

namespace preserve {
namespace {

constexpr int64_t kQuickTimeNs = 1'200'000'000;

struct Arguments {
  std::string output = "device.json";
  bool force = false;
  int ranks = 0;  // 0: half the cores
  std::string device = "cpu";
  bool quick = false;
  std::string worker;  // where the rank processes write
};

void define(CLI::App& app, Arguments& arguments) {
  app.add_option("-o,--output", arguments.output, "Where to write, - for standard output")
      ->capture_default_str();
  app.add_flag("-f,--force", arguments.force, "Replace an existing output");
  app.add_option("--ranks", arguments.ranks,
                 "Ranks that will share the cache; all are measured at once [half the cores]")
      ->check(CLI::Range(1, 4096));
  app.add_option("--device", arguments.device, "What to measure")
      ->check(CLI::IsMember({"cpu"}))
      ->capture_default_str();
  app.add_flag("--quick", arguments.quick, "Fewer repetitions: about a third of the time");
  app.add_option("--worker", arguments.worker)->group("");
}

void print_summary(const DeviceModel& device, FILE* stream) {
  fmt::print(stream, "{}\n", device.name);
  fmt::print(stream, "  ranks measured at once  {}\n", device.ranks);
  fmt::print(stream, "  memory, per rank        {}\n",
             format_rate(device.memory_bandwidth_bytes_per_s));
  fmt::print(stream, "  cache, per rank         {}\n",
             format_rate(device.cache_read_bandwidth_bytes_per_s));
  fmt::print(stream, "  cache budget, per rank  {} of {} shared\n",
             format_size(static_cast<double>(device.cache_budget_bytes)),
             format_size(static_cast<double>(device.cache_bytes)));
  if (device.methods.empty()) {
    fmt::print(stream, "  prefetching             no method makes the reader faster\n");
    return;
  }
  const PrefetchMethod& best = device.methods.front();
  fmt::print(stream, "  best prefetch           {} on the {} core, {}, then read at {}\n",
             best.name, best.placement, format_rate(best.bandwidth_bytes_per_s),
             format_rate(best.hit_read_bandwidth_bytes_per_s));
}

CalibrateOptions options_of(const Arguments& arguments) {
  CalibrateOptions options;
  if (arguments.quick) options.time_limit_ns = kQuickTimeNs;
  return options;
}

// A folder that nobody else can guess or enter, gone when this is.
class PrivateFolder {
 public:
  PrivateFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "preserve-calibrate-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw input_error("cannot create a folder {}: {}", name, std::strerror(errno));
    }
    path_ = name;
  }
  ~PrivateFolder() {
    std::error_code ignored;  // what remains is a few KB in the temporary folder
    std::filesystem::remove_all(path_, ignored);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// In each rank process; rank 0 writes.
int measure(Console& console, const Arguments& arguments, OutputFile* output) {
  return run_as_rank(console, [&](Ranks& ranks) {
    const CalibrationSamples samples = measure_cpu(ranks, options_of(arguments));
    if (ranks.rank() != 0) return kExitDone;
    const std::string text = to_json(device_from(samples));
    if (output != nullptr) {
      output->write(text);
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
        fmt::format("{} on {}: the ranks take turns, so the result is no measurement of this "
                    "machine",
                    count_of(ranks, "rank"), count_of(cores, "usable core")));
  }
  const MeasurementLock lock([&](const std::string& text) { console.info(text); });
  console.info(fmt::format("measuring {} with {} at once", host.cpu_name, count_of(ranks, "rank")));
  const bool to_stdout = output.is_stdout();
  std::optional<PrivateFolder> folder;
  if (to_stdout) folder.emplace();
  const std::filesystem::path target =
      to_stdout ? folder->path() / "device.json" : output.temporary_path();
  RankLaunch start;
  start.ranks = ranks;
  start.crowded = ranks > cores;
  start.patience_ns = patience_ns(options_of(arguments).time_limit_ns);
  start.arguments = {"--worker", target.string(), "--color", "never"};
  if (arguments.quick) start.arguments.emplace_back("--quick");
  if (const int code = run_ranks(start); code != 0) return code;
  const DeviceModel device = load_device(target);
  if (to_stdout) {
    output.write(read_text_file(target));
  } else {
    output.commit();
  }
  print_summary(device, to_stdout ? stderr : stdout);
  if (!to_stdout) {
    console.next(
        fmt::format("preserve-tune trace.db --device {} -o schedule.json", arguments.output));
  }
  return kExitDone;
}

int run(Console& console, const Arguments& arguments) {
  if (!arguments.worker.empty()) {
    end_with_parent();
    return measure(console, arguments, nullptr);
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
  ToolInfo info;
  info.name = "preserve-calibrate";
  info.purpose = "Measure what caches, memory and prefetching of this machine can do.";
  info.footer =
      "Examples:\n"
      "  preserve-calibrate -o device.json                 half the cores as ranks\n"
      "  preserve-calibrate --ranks 2 --quick -o device.json\n"
      "  mpirun -n 4 preserve-calibrate -o device.json     ranks placed by your launcher\n"
      "\n"
      "Exit codes: 0 done, 2 usage or bad input, 3 internal error.";
  info.versions = "device 1.1";
  return run_tool(
      argc, argv, info, [&](CLI::App& app) { define(app, arguments); },
      [&](Console& console) { return run(console, arguments); }, /*allow_no_arguments=*/true);
}
