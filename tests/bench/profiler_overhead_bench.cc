// SPDX-License-Identifier: Apache-2.0
// Cost of recording an NVTX push/pop pair: the same loop in child processes with and without the
// collector, alternating. A plain loop of millions of pairs with a ring that holds them, first
// touch of its memory and the writer thread included, and how many records were dropped; bursts
// that leave time to flush, as a decode step does; and the plain loop with the ring of the default
// size.
#include <nvtx3/nvToolsExt.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/private_folder.h"
#include "profiler/convert/convert.h"
#include "profiler/convert/process_image.h"
#include "tests/bench/measured_child.h"
#include "tests/bench/metric.h"
#include "tests/support/paths.h"

namespace {

using preserve::internal_error;
namespace fs = std::filesystem;

constexpr int kBurstPairs = 8'000;  // 320 KiB of records; a ring holds 1 MiB
constexpr int kBursts = 20;
constexpr int kRepetitions = 9;
constexpr int kPlainPairs = 4'000'000;
constexpr const char* kLargeRing = "268435456";  // 48 bytes a pair
constexpr useconds_t kPauseUs = 60'000;
constexpr double kTargetNs = 60;

// Child: ns per pair of the fastest half of the bursts, to the pipe.
int loop(int bursts, int pairs, useconds_t pause_us) {
  nvtxRangePushA("warm-up");
  nvtxRangePop();
  std::vector<double> costs;
  for (int burst = 0; burst < bursts; ++burst) {
    costs.push_back(1e9 / pairs * preserve::bench::seconds_of([pairs] {
                      for (int i = 0; i < pairs; ++i) {
                        nvtxRangePushA("layers.0.mlp");
                        nvtxRangePop();
                      }
                    }));
    usleep(pause_us);
  }
  std::printf("%.4f\n", preserve::median(costs));
  return 0;
}

double run_child(const fs::path& spool, const char* mode, const std::string& ring = {}) {
  std::vector<std::string> environment;
  if (!spool.empty()) {
    environment = {"NVTX_INJECTION64_PATH=" PRESERVE_PLUGIN_DIR "/libpreserve_collect.so",
                   "LD_PRELOAD=" PRESERVE_PLUGIN_DIR "/libpreserve_collect.so",
                   "PRESERVE_SPOOL_DIR=" + spool.string(), "PRESERVE_FLUSH_MS=20"};
    if (!ring.empty()) environment.push_back("PRESERVE_RING_BYTES=" + ring);
  }
  return preserve::bench::measured_child(mode, std::move(environment));
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
  if (argc == 2 && std::strcmp(argv[1], "plain") == 0) return loop(1, kPlainPairs, 0);
  const preserve::PrivateFolder own("preserve-bench");
  const fs::path& folder = own.path();
  std::vector<double> burst, plain, bare, plain_dropped, flood, flood_dropped;
  for (int i = 0; i < kRepetitions; ++i) {
    const double without = run_child({}, "burst");
    burst.push_back(run_child(folder, "burst") - without);
    if (dropped_part(folder) > 0) throw internal_error("a burst overflowed the ring");
    bare.push_back(run_child({}, "plain"));
    plain.push_back(run_child(folder, "plain", kLargeRing) - bare.back());
    plain_dropped.push_back(100 * dropped_part(folder));
    flood.push_back(run_child(folder, "plain") - bare.back());
    flood_dropped.push_back(100 * dropped_part(folder));
    std::fprintf(stderr, "%.1f ns in a burst, %.1f ns in the plain loop, %.1f %% dropped\n",
                 burst.back(), plain.back(), plain_dropped.back());
  }
  using preserve::bench::report_metric;
  const auto report_cost = [](const char* what, const std::vector<double>& ns) {
    report_metric("profiler", what, "ns", ns, "at most 60 ns", preserve::median(ns) <= kTargetNs);
  };
  report_cost("NVTX push/pop pair, plain loop of 4 million, beyond the same loop uninjected",
              plain);
  report_metric("profiler", "records dropped in that loop (ring of 256 MiB)", "%", plain_dropped,
                "0 %", preserve::median(plain_dropped) == 0);
  report_cost("NVTX push/pop pair, bursts of 8000, beyond the same loop uninjected", burst);
  report_metric("profiler", "NVTX push/pop pair, plain loop, uninjected", "ns", bare);
  report_metric("profiler",
                "NVTX push/pop pair, plain loop with a ring of 1 MiB, beyond uninjected", "ns",
                flood);
  report_metric("profiler", "records dropped in that loop (ring of 1 MiB)", "%", flood_dropped);
  return 0;
}
