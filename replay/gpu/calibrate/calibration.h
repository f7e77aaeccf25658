// SPDX-License-Identifier: Apache-2.0
// Calibration of a GPU, the thinking half: from the samples of calibrate_gpu.h to the device model
// that preserve-tune plans with. Pure. Definitions of every number: docs/replay.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/schedule/device.h"
#include "replay/gpu/device.h"

namespace preserve {

// One value per counted round. Series of one phase are aligned: equal index, same round.
using Series = std::vector<double>;

struct GpuIssue {
  GpuFetch fetch = GpuFetch::bulk_l2;
  int ctas = 0;
  int64_t chunk_bytes = 0;
  GpuEviction eviction = GpuEviction::normal;
  bool operator==(const GpuIssue&) const = default;
};

// The consumer reading `bytes` of which nothing is cached, and once more straight afterwards.
struct FootprintTimes {
  int64_t bytes = 0;
  Series cold_ns, again_ns;
};
// Prefetching `bytes` during a stand-in that is held for `hold_ns`. Its consumer begins window_ns
// after it and reads them in read_ns.
struct WindowTimes {
  GpuIssue issue;
  int64_t hold_ns = 0, bytes = 0;
  Series window_ns, read_ns;
};
// The consumer reading what was prefetched, long after all of it has arrived.
struct ArrivedTimes {
  GpuIssue issue;
  int64_t bytes = 0;
  Series read_ns;
};
// The consumer reading as soon as the prefetch kernel has ended. issue_ns: from the end of the node
// before the prefetch to the beginning of the reader.
struct RetiredTimes {
  GpuIssue issue;
  int64_t bytes = 0;
  Series issue_ns, read_ns;
};
// SMs of one half of L2 bring the bytes in, those of one half read them again.
struct HalfTimes {
  int filled_by = 0, read_by = 0;  // 1, 2
  int64_t bytes = 0;
  Series again_ns;
};
// How a prefetch comes to run during a collective: as a leaf of the graph, by an edge that fires
// when the collective has begun, in a second stream without a graph.
enum class StartWay { leaf, launch_order, side_stream };
inline constexpr std::string_view kStartWayWords[] = {"leaf", "launch_order", "side_stream"};
// Growing windows of one way of issuing: by size of what is prefetched, then by hold.
struct RampTimes {
  StartWay way = StartWay::leaf;
  std::vector<WindowTimes> windows;
};
enum class SetAside { as_found, none, largest };
inline constexpr std::string_view kSetAsideWords[] = {"default", "zero", "largest"};
// Prefetched bytes read after `traffic_bytes` of other reads.
struct EvictionTimes {
  SetAside set_aside = SetAside::as_found;
  GpuEviction eviction = GpuEviction::normal;
  int64_t bytes = 0, traffic_bytes = 0;
  Series read_ns;
};
struct LinkTimes {
  int64_t link_bytes = 0, fetched_bytes = 0;
  Series alone_ns, beside_ns;  // without and with a prefetch
};
// A stand-in for operators of one class, read cold: without a prefetch, and with one that is over
// before the operator is.
struct OperatorTimes {
  GpuIssue issue;
  OperatorClass of = OperatorClass::small;
  int ctas = 0;  // 0: as many as fill the device
  int64_t bytes = 0, fetched_bytes = 0;
  Series alone_ns, beside_ns;
};
struct ChaseTimes {
  int64_t hops = 0;
  Series hit_ns, hit_beside_ns, miss_ns, miss_beside_ns;
};
struct LeafTimes {
  int leaves = 0;  // prefetch nodes without dependents
  Series launch_ns, step_ns;
};
struct ChainTimes {
  int nodes = 0;  // reads of one block, one after the other
  Series step_ns;
};
// The rounds of one phase.
struct RoundsSeen {
  int counted = 0;
  int throttled = 0;            // not counted, for this reason
  bool only_throttled = false;  // nearly all were, so they are counted after all
  std::string reason;           // of throttling, where the driver gave one
  Series probe_ns;              // a fixed piece of arithmetic, once per counted round
};

struct GpuCalibrationSamples {
  GpuFacts facts;
  GpuState before, after;
  std::string date;
  int runs_per_value = 1;  // each value of a series is the mean of so many executions
  double took_s = 0;

  // First phase: everything that needs no choice.
  RoundsSeen first;
  int64_t memory_read_bytes = 0;
  Series memory_read_ns;                   // cold, several L2s
  std::vector<FootprintTimes> footprints;  // ascending
  std::vector<WindowTimes> grid;           // every method, CTAs, chunk; the holds of kRankHoldsNs
  std::vector<HalfTimes> halves;           // empty: L2 is not split
  std::vector<LeafTimes> leaves;           // ascending
  ChainTimes short_chain, long_chain;

  // Second phase: the chosen ways of issuing.
  RoundsSeen second;
  std::vector<FootprintTimes> references;  // for the bytes of everything below
  std::vector<RampTimes> ramps;        // leaves of every chosen way, best first; others of the best
  std::string no_start_edges;          // why the driver takes none; empty: it does
  std::vector<ArrivedTimes> arrived;   // each chosen way at footprints that L2 holds
  std::vector<ArrivedTimes> survival;  // the best way at growing footprints
  std::vector<RetiredTimes> retired;
  std::vector<EvictionTimes> evictions;
  std::vector<OperatorTimes> operators;  // of each chosen way, every class
  std::optional<LinkTimes> link;
  std::optional<ChaseTimes> chase;
};

// Windows that ways of issuing are compared in, each counting alike: a short collective (custom
// allreduces of small messages), a long one (NCCL), and one in which not even the fastest memory
// fills what L2 holds, or all ways would look the same.
inline constexpr int64_t kRankHoldsNs[] = {3'000, 10'000, 25'000};

int64_t set_aside_bytes(const GpuFacts& facts, SetAside set_aside);

// What kept the GPU from being ours alone before the measurement; empty: nothing.
std::vector<std::string> busy_sentences(const GpuState& before);

// That the clocks were held down, in one sentence each; empty: they were not.
std::vector<std::string> clock_warnings(const GpuCalibrationSamples& samples);

// Of each method the fewest CTAs that save nearly as much of the consumer's time as the best, with
// their best chunk; best method first. Methods that save next to nothing are left out.
std::vector<GpuIssue> choose_issues(const std::vector<WindowTimes>& grid,
                                    const std::vector<FootprintTimes>& footprints);

// Everything but what `published` has to tell: arithmetic rates, collectives.
DeviceModel device_from(const GpuCalibrationSamples& samples);

// input_error when a device file that should tell what cannot be measured is not of a GPU.
void check_published(const DeviceModel& published, const std::string& path);
// Copies from it what one GPU alone cannot measure, with a note naming the file.
void add_published(DeviceModel& device, const DeviceModel& published, const std::string& path);

// All series in short, for device.json: medians, spreads, counts.
std::vector<DeviceMeasurement> measurements_of(const GpuCalibrationSamples& samples);

}  // namespace preserve
