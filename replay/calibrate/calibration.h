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

// A collective in which one rank comes late; the others, which wait for it, fetch or do not.
struct WindowSamples {
  int64_t late_ns = 0;
  std::vector<double> added_ns;       // later through with fetching than without
  std::vector<double> fetched_bytes;  // in as many windows
};

// Of one round, or of several together. Samples during which a rank lost its core are not in it.
struct CalibrationSamples {
  HostCores host;
  int64_t ranks = 1;                    // of this host
  int64_t all_ranks = 1;                // in the collectives: of all hosts
  int64_t probe_bytes = 0;              // footprint at which methods are compared
  int64_t chunk_bytes = 0;              // fetched between two looks, as a replay does
  std::vector<double> stream_ns;        // plain streaming read of probe_bytes, cold
  std::vector<double> cold_ns, hot_ns;  // sgemv over probe_bytes, cold and straight afterwards
  std::vector<double> floor_ns;         // sgemv over one row
  std::vector<double> clock_ns;         // kClockProbeSteps steps that wait for nothing but the core
  std::vector<double> test_ns;          // one look
  std::vector<double> post_ns;          // the non-blocking call itself
  std::vector<MethodSamples> methods;
  size_t survivor = 0;                     // index of the method whose footprints were measured
  std::vector<FootprintSamples> survival;  // ascending
  // One rank alone has no collectives: then these, and post_ns, are empty.
  std::vector<CollectiveSamples> allreduce;
  std::vector<WindowSamples> windows;
  std::string via = "convert";  // how windows were filled
  std::string mpi_library, date;
  int64_t interrupted = 0;  // samples left out, of all that were taken
  int64_t taken = 0;
};

enum class SeriesKind {
  needed,    // times without which there is no device
  optional,  // times of a point that may be missing
  window     // no plain times: those that add may be negative
};

// Calls `use` with every vector of samples, always in the same order, and its kind.
template <class Samples, class Use>
void each_series(Samples& samples, Use use) {
  for (auto* series : {&samples.stream_ns, &samples.cold_ns, &samples.hot_ns, &samples.floor_ns,
                       &samples.clock_ns, &samples.test_ns, &samples.post_ns}) {
    use(*series, SeriesKind::needed);
  }
  for (auto& method : samples.methods) {
    use(method.fetch_ns, SeriesKind::needed);
    use(method.read_ns, SeriesKind::needed);
    use(method.latency_ns, SeriesKind::needed);
  }
  for (auto& timed : samples.allreduce) use(timed.dur_ns, SeriesKind::needed);
  for (auto& point : samples.survival) {
    use(point.cold_ns, SeriesKind::optional);
    use(point.read_ns, SeriesKind::optional);
  }
  for (auto& window : samples.windows) {
    use(window.added_ns, SeriesKind::window);
    use(window.fetched_bytes, SeriesKind::window);
  }
}

// Methods that gain anything, best first: by what they save in a window just long enough for the
// memory to deliver `budget_bytes`, so that neither a dropped hint nor a slow method can win.
// Within 5 % of the best the order of kFetchMethods decides.
std::vector<PrefetchMethod> rank_methods(const CalibrationSamples& samples, int64_t budget_bytes);

// Footprints at which survival is measured: from a fraction of the private cache to one and a half
// of the rank's share, in steps of three tenths.
std::vector<int64_t> footprints(const HostCores& host, int64_t ranks);
// Beyond the noise of starting, within the core's private cache: half of it, or a quarter of the
// rank's share where there is none.
int64_t probe_bytes(const HostCores& host, int64_t ranks);

// Survival curve, made monotonic: a larger footprint never survives better.
std::vector<SurvivalPoint> survival_curve(const CalibrationSamples& samples,
                                          double hit_bandwidth_bytes_per_s);

// What one rank can keep at most while the others keep as much: its part of the shared cache and
// its core's private one.
int64_t cache_share_bytes(const HostCores& host, int64_t ranks);

// Smallest power of two, 1 KiB to 64 KiB, with which looking at the collective costs at most a
// tenth of the fetching, but no more than two microseconds fetch: the end of the collective would
// be noticed late.
int64_t chunk_bytes(double test_ns, double bandwidth_bytes_per_s);

CollectiveFit fit_collective(const std::vector<CollectiveSamples>& samples, int64_t ranks);

DeviceModel device_from(const CalibrationSamples& samples);

}  // namespace preserve
