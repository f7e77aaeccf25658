// SPDX-License-Identifier: Apache-2.0
// Cost of recording an NVTX push/pop pair: the same loop in child processes with and without the
// collector, alternating. Bursts stay below the size of a ring and leave time to flush, as a decode
// step does; a second metric floods the ring and says how many records were dropped instead. Then
// the whole: decode steps of tp_decoder with and without preserve-profile, alternating.
#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "common/error.h"
#include "profiler/convert.h"
#include "profiler/process_image.h"
#include "tests/bench/metric.h"

namespace {

using preserve::internal_error;
namespace fs = std::filesystem;

constexpr int kBurstPairs = 8'000;  // 320 KiB of records; a ring holds 1 MiB
constexpr int kBursts = 20;
constexpr int kRepetitions = 9;
constexpr int kDecoderPairs = 15;
constexpr useconds_t kPauseUs = 60'000;
constexpr double kTargetNs = 60;
constexpr double kTargetPercent = 1;

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Child: ns per pair of the fastest half of the bursts, to the pipe.
int loop(int bursts, int pairs, useconds_t pause_us) {
  nvtxRangePushA("warm-up");
  nvtxRangePop();
  std::vector<double> costs;
  for (int burst = 0; burst < bursts; ++burst) {
    const int64_t start_ns = now_ns();
    for (int i = 0; i < pairs; ++i) {
      nvtxRangePushA("layers.0.mlp");
      nvtxRangePop();
    }
    costs.push_back(static_cast<double>(now_ns() - start_ns) / pairs);
    usleep(pause_us);
  }
  std::printf("%.4f\n", preserve::median(costs));
  return 0;
}

double run_child(const fs::path& spool, const char* mode) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) throw internal_error("pipe failed");
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[0]);
    if (!spool.empty()) {
      setenv("NVTX_INJECTION64_PATH", PRESERVE_PLUGIN_DIR "/libpreserve_collect.so", 1);
      setenv("LD_PRELOAD", PRESERVE_PLUGIN_DIR "/libpreserve_collect.so", 1);
      setenv("PRESERVE_SPOOL_DIR", spool.c_str(), 1);
      setenv("PRESERVE_FLUSH_MS", "20", 1);
    }
    execl("/proc/self/exe", "bench_profiler_overhead", mode, nullptr);
    _exit(127);
  }
  close(pipe_ends[1]);
  char text[64] = {};
  const ssize_t bytes = read(pipe_ends[0], text, sizeof(text) - 1);
  close(pipe_ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (bytes <= 0 || status != 0) throw internal_error("the measured loop failed");
  return std::stod(text);
}

// Part of the records that were dropped; the folder is emptied.
double dropped_part(const fs::path& folder) {
  int64_t stated = 0, dropped = 0;
  for (const fs::path& file : preserve::spool_files(folder)) {
    const preserve::SpoolFileReader reader(file);
    const preserve::ProcessImage image(reader);
    stated += image.nvtx.stated;
    dropped += image.nvtx.dropped;
    fs::remove(file);
  }
  if (stated == 0) throw internal_error("the collector recorded nothing");
  return static_cast<double>(dropped) / static_cast<double>(stated);
}

// Median step of tp_decoder in ms, as it prints it.
double decoder_step_ms(const std::string& prefix) {
  const std::string command = prefix + " mpirun --oversubscribe -n 2 " PRESERVE_BIN_DIR
                                       "/tp_decoder --config " PRESERVE_SOURCE_DIR
                                       "/examples/models/stories42m.json --tokens 64";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw internal_error("cannot run {}", command);
  double step_ms = 0;
  char line[256];
  while (std::fgets(line, sizeof(line), pipe) != nullptr) {
    std::sscanf(line, "median step: %lf ms", &step_ms);
  }
  if (pclose(pipe) != 0 || step_ms <= 0) throw internal_error("failed: {}", command);
  return step_ms;
}

// Added time per step in per cent, one value per pair; which of a pair comes first alternates.
std::vector<double> decoder_overhead(const fs::path& folder) {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  const std::string profile =
      PRESERVE_BIN_DIR "/preserve-profile -q -f -o " + (folder / "trace.db").string() + " --";
  std::vector<double> added;
  for (int pair = 0; pair < kDecoderPairs; ++pair) {
    double with = 0, without = 0;
    for (const bool profiled : {pair % 2 == 0, pair % 2 != 0}) {
      (profiled ? with : without) = decoder_step_ms(profiled ? profile : "");
    }
    std::fprintf(stderr, "%.3f ms without, %.3f ms with\n", without, with);
    added.push_back(100 * (with / without - 1));
  }
  return added;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "burst") == 0) return loop(kBursts, kBurstPairs, kPauseUs);
  if (argc == 2 && std::strcmp(argv[1], "flood") == 0) return loop(1, 5'000'000, 0);
  std::string folder = (fs::temp_directory_path() / "preserve-bench.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) throw internal_error("mkdtemp failed");
  std::vector<double> added, bare, flood, flood_dropped;
  for (int i = 0; i < kRepetitions; ++i) {
    const double without = run_child({}, "burst");
    const double with = run_child(folder, "burst");
    if (dropped_part(folder) > 0) throw internal_error("a burst overflowed the ring");
    bare.push_back(without);
    added.push_back(with - without);
    std::fprintf(stderr, "%.1f ns without, %.1f ns with\n", without, with);
  }
  for (int i = 0; i < 3; ++i) {
    flood.push_back(run_child(folder, "flood"));
    flood_dropped.push_back(100 * dropped_part(folder));
  }
  const std::vector<double> decoder = decoder_overhead(folder);
  fs::remove_all(folder);
  using preserve::bench::report_metric;
  const double cost = preserve::median(added);
  report_metric("profiler", "NVTX push/pop pair, beyond the uninjected loop", "ns", added,
                "at most 60 ns", cost <= kTargetNs);
  report_metric("profiler", "tp_decoder step, added by preserve-profile", "%", decoder,
                "at most 1 %", preserve::median(decoder) <= kTargetPercent);
  report_metric("profiler", "NVTX push/pop pair, uninjected", "ns", bare, "", true);
  report_metric("profiler", "NVTX push/pop pair while flooding one ring", "ns", flood, "", true);
  report_metric("profiler", "records dropped while flooding one ring", "%", flood_dropped, "",
                true);
  return 0;
}
