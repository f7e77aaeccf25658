// SPDX-License-Identifier: Apache-2.0
// Cost of recording an NVTX push/pop pair: the same loop in child processes with and without the
// collector, alternating. Bursts stay below the size of a ring and leave time to flush, as a decode
// step does; a second metric floods the ring and says how many records were dropped instead.
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
constexpr useconds_t kPauseUs = 60'000;
constexpr double kTargetNs = 60;

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
  fs::remove_all(folder);
  using preserve::bench::report_metric;
  const double cost = preserve::median(added);
  report_metric("profiler", "NVTX push/pop pair, beyond the uninjected loop", "ns", added,
                "at most 60 ns", cost <= kTargetNs);
  report_metric("profiler", "NVTX push/pop pair, uninjected", "ns", bare, "", true);
  report_metric("profiler", "NVTX push/pop pair while flooding one ring", "ns", flood, "", true);
  report_metric("profiler", "records dropped while flooding one ring", "%", flood_dropped, "",
                true);
  return 0;
}
