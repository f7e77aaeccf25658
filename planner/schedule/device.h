// SPDX-License-Identifier: Apache-2.0
// device.json: what the hardware can do, measured by preserve-calibrate or taken from published
// figures (examples/devices). Schema: planner/schedule/device.schema.json. Rates in bytes/s, sizes
// in bytes, times in ns. All rates are what ONE rank gets while all ranks of the host do the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "planner/schedule/operator_class.h"

namespace preserve {

// Share of a freshly prefetched footprint that is still cached when it is read, against the size of
// everything brought into the cache since (prefetched bytes and other traffic).
struct SurvivalPoint {
  int64_t footprint_bytes = 0;
  double hit_fraction = 0;  // 0..1
};

// One way of issuing prefetches and what it reaches.
struct PrefetchMethod {
  std::string name;       // load, prefetcht0_paced, bulk_l2, ...
  std::string placement;  // "consumer" (the core or SMs that will read) or "spare"
  double bandwidth_bytes_per_s = 0;
  int64_t start_latency_ns = 0;               // from the decision to the first byte arriving
  double hit_read_bandwidth_bytes_per_s = 0;  // reading afterwards what this method fetched
  int64_t chunk_bytes = 0;  // bytes between two polls of the collective (CPU) or per request (GPU)
  int64_t ctas = 0;         // GPU only
  std::string eviction{};   // GPU only: "normal", or "last" (lines are evicted last); empty: normal
  // GPU only: "before" or "after" the collective's start, as the start latency was measured; empty:
  // after.
  std::string issue{};
  // What it does to operators that it runs beside. Empty where it ends with its collective (CPU).
  OperatorSlowdowns operator_slowdown_per_byte_ns{};
};

// Collective time without prefetching: latency + bytes / bandwidth (least-squares fit), over one
// range of message sizes; libraries change their algorithm, so a curve takes several pieces.
struct CollectiveFit {
  std::string function;  // allreduce
  std::string library;   // what was measured: mpi, nccl, custom
  int64_t ranks = 0;
  double latency_ns = 0;
  double bandwidth_bytes_per_s = 0;
  double max_relative_error = 0;         // of the fit on its own data
  int64_t min_bytes = 0, max_bytes = 0;  // sizes that were fitted; max_bytes 0: not stated
};

// Measured times of one class of operators: (latency + bytes / bandwidth) x a factor interpolated
// on a grid (scripts/make-device-presets). `bytes` are those read from memory: the weights of a
// matrix product, keys and values of one layer's attention. planner/schedule/operator_time.h
// evaluates it.
struct OperatorTable {
  struct Axis {
    std::string name;
    std::vector<int64_t> knots;  // ascending; the first and last are the range measured
  };
  std::string operation;  // "gemm" or "attention"
  std::string dtype;      // of the weights or of keys and values: "fp16" (bfloat16 too), "fp8", ...
  std::string engine, version, kernel, source;
  int64_t rows = 0;                  // measurements that were fitted
  double median_relative_error = 0;  // on rows left out of a fit
  double p90_relative_error = 0;     // likewise; the 90th percentile
  double latency_ns = 0;             // of the line
  double bandwidth_bytes_per_s = 0;  // of the line
  std::vector<Axis> axes;            // gemm: m, n, k; attention: streams, context, group
  std::vector<double> factors;       // of the grid, the last axis varying fastest
};

// Further measurements, for people; planning does not use them. Names: docs/replay.md.
struct DeviceMeasurement {
  std::string name;  // "start.leaf"
  std::string unit;  // "ns", "bytes/s", "bytes", "1" (a share or a ratio), "MHz"
  double median = 0;
  double mad = 0;  // median absolute deviation
  int64_t n = 1;   // samples
  std::string note{};
};

// How far a figure of this file is known: the 95 % interval over the rounds of the measurement.
struct DeviceInterval {
  std::string figure;  // "cache_budget_bytes", "methods/load/consumer/bandwidth_bytes_per_s", ...
  double low = 0, high = 0;
  int64_t n = 1;  // samples
};

struct DeviceModel {
  std::string name;                // "h100-sxm", or the processor's model name
  std::string kind;                // "cpu" or "gpu"
  std::string source;              // "measured", or "published: <where>"
  int64_t ranks = 1;               // ranks sharing the cache when this was measured (1 on a GPU)
  int64_t multiprocessors = 0;     // GPU only; 0: not stated
  int64_t cache_bytes = 0;         // nominal size of the shared cache
  int64_t cache_budget_bytes = 0;  // usable by prefetches of one rank: the C of the flow
  int64_t memory_bytes = 0;        // of one rank, for weights and KV; 0: not stated
  double memory_bandwidth_bytes_per_s = 0;      // B_cold
  double memory_bandwidth_low_bytes_per_s = 0;  // four fifths of the cold reads; 0: not measured
  double cache_read_bandwidth_bytes_per_s = 0;  // B_hot, upper bound
  // How much a prefetched byte lengthens the collective during which it moves, and how much a
  // window that prefetches lengthens the step, however few bytes it fetches.
  double slowdown_per_byte_ns = 0;
  int64_t window_cost_ns = 0;
  int64_t op_floor_ns = 0;  // no operator gets shorter than this
  double flops_fp16_per_s = 0, flops_fp8_per_s = 0, flops_fp4_per_s = 0,
         flops_int8_per_s = 0;          // for the workload generator
  std::vector<SurvivalPoint> survival;  // ascending footprint
  std::vector<PrefetchMethod> methods;  // best first
  std::vector<CollectiveFit> collectives;
  std::vector<OperatorTable> operators;
  std::vector<DeviceMeasurement> measurements;
  std::vector<DeviceInterval> intervals;  // empty: not measured
  std::string verdict{};           // "steady", "unsteady": do the figures repeat; empty: not judged
  std::string verdict_reason{};    // of an unsteady one
  std::vector<std::string> notes;  // how measured: n, clocks, spread, date
};

// The schema's limits of window_cost_ns, and of slow-downs per byte.
inline constexpr int64_t kMostWindowCostNs = 10'000'000;
inline constexpr double kMostSlowdownNs = 1000;

// Written into new files; every 1.x is read. 1.1 added eviction, window_cost_ns, multiprocessors
// and measurements; 1.2 intervals, verdict, operators, flops_fp4_per_s,
// operator_slowdown_per_byte_ns and memory_bandwidth_low_bytes_per_s.
inline constexpr const char* kDeviceVersion = "1.2";

// Reads and validates against the schema, then checks what a schema cannot: finite positive rates,
// ascending survival points, budget <= cache. input_error with file and JSON pointer.
DeviceModel load_device(const std::filesystem::path& path);
std::string to_json(const DeviceModel& device);  // the text of device.json

// The first method of this name and placement, an empty one meaning any; nullptr when there is
// none.
const PrefetchMethod* find_method(const DeviceModel& device, std::string_view name,
                                  std::string_view placement = {});

inline constexpr const char* kBudgetFigure = "cache_budget_bytes";
// The name of a method's figure in an interval.
std::string method_figure(const PrefetchMethod& method, std::string_view figure);
std::string slowdown_figure(const PrefetchMethod& method, OperatorClass of);
// nullptr when the file has none for this figure.
const DeviceInterval* find_interval(const DeviceModel& device, std::string_view figure);

// The device with the end of each interval that promises less: a smaller budget, slower prefetches,
// slower hits, dearer windows, operators that are slowed down more. `said` gets a sentence per
// figure that moved by more than a tenth.
DeviceModel careful_device(const DeviceModel& device, std::vector<std::string>& said);

// Hit fraction at a footprint: linear between points, flat outside; 1 below the budget and 0 above
// when no curve was measured.
double survival_at(const DeviceModel& device, double footprint_bytes);

// The core that waits in a collective is the one that prefetches: it does so only while it waits.
inline bool fetches_while_waiting(const DeviceModel& device, const PrefetchMethod& method) {
  return device.kind == "cpu" && method.placement == "consumer";
}

// On a GPU the prefetch kernel continues when its collective has ended, until the step ends; on a
// CPU prefetching stops, also on a spare core.
inline bool outlasts_window(const DeviceModel& device) {
  return device.kind != "cpu";
}

// From this footprint on nothing survives; infinite where the curve does not say.
double most_cached_bytes(const DeviceModel& device);

// What was fetched and waits to be read counts this many times as old as it is, where a stream of
// its own fetches it, whose progress beside the operators is known to about a tenth: what waits in
// a cache nearly full is lost by whole tensors where the stream is a little early, and a search
// finds plans at that edge. 1 where the cache was not measured.
double waiting_age(const DeviceModel& device);

}  // namespace preserve
