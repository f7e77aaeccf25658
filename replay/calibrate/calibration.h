// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate, the thinking half: from raw timings of all ranks to the device model that
// preserve-tune plans with. Pure. Definitions (cold, hot, hit fraction, budget): docs/replay.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/schedule/device.h"
#include "replay/calibrate/survival.h"
#include "replay/cpu/host_cores.h"

namespace preserve {

// Times in ns, over all ranks and repetitions.
struct MethodSamples {
  std::string name, placement;
  std::vector<double> fetch_ns;    // fetching probe_bytes of cold memory
  std::vector<double> read_ns;     // the consumer reading them afterwards
  std::vector<double> latency_ns;  // fetching a single line
};
struct FootprintSamples {
  int64_t bytes = 0;
  std::vector<double> cold_ns;  // the consumer reading cold memory
  std::vector<double> read_ns;  // the same after fetching it
};
struct CollectiveSamples {
  int64_t bytes = 0;
  std::vector<double> dur_ns;
};

struct CalibrationSamples {
  HostCores host;
  int64_t ranks = 1;
  int64_t probe_bytes = 0;               // footprint at which methods are compared
  int64_t chunk_bytes = 0;               // fetched between two looks, as a replay does
  std::vector<double> stream_ns;         // plain streaming read of probe_bytes, cold
  std::vector<double> cold_ns, hot_ns;   // sgemv over probe_bytes, cold and straight afterwards
  std::vector<double> floor_ns;          // sgemv over one row
  std::vector<double> test_ns, post_ns;  // one look; the non-blocking call itself
  std::vector<MethodSamples> methods;
  std::vector<FootprintSamples> survival;  // of the best method, ascending
  // One rank alone has no collectives: then allreduce, post_ns and all of windows are empty.
  std::vector<CollectiveSamples> allreduce;
  int64_t window_bytes = 0;  // most that a window of the next two fetched
  std::vector<double> null_window_ns, fetch_window_ns;
  std::vector<double> fetched_bytes;  // in the windows of fetch_window_ns
  std::string mpi_library, date;
};

// Methods that gain anything, best first: by what they save in a window just long enough for the
// memory to deliver `budget_bytes`, so that neither a dropped hint nor a slow method can win.
// Within 5 % of the best the order of kFetchMethods decides.
std::vector<PrefetchMethod> rank_methods(const CalibrationSamples& samples, int64_t budget_bytes);

// Survival curve, made monotonic: a larger footprint never survives better.
std::vector<SurvivalPoint> survival_curve(const CalibrationSamples& samples,
                                          double hit_bandwidth_bytes_per_s);

// What one rank can keep at most while the others keep as much: its part of the shared cache and
// its core's private one.
int64_t cache_share_bytes(const HostCores& host, int64_t ranks);

// Smallest power of two, 1 KiB to 64 KiB, with which looking at the collective costs at most a
// tenth of the fetching.
int64_t chunk_bytes(double test_ns, double bandwidth_bytes_per_s);

CollectiveFit fit_collective(const std::vector<CollectiveSamples>& samples, int64_t ranks);

DeviceModel device_from(const CalibrationSamples& samples);

}  // namespace preserve
