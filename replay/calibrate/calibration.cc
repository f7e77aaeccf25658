// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/calibration.h"
#include "common/text.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/cpu/core_use.h"

namespace preserve {
namespace {

// A method has to save this share of the cold time, or it is noise.
constexpr double kWorthwhileSaving = 0.05;
constexpr double kAsGood = 0.95;

double rate(int64_t bytes, double dur_ns) {
  return static_cast<double>(bytes) * kNsPerS / std::max(dur_ns, 1.0);
}

// The time of something that has a limit: the fastest tenth. Whatever disturbs it makes it longer,
// and the very fastest may owe its speed to luck.
double best(const std::vector<double>& dur_ns) {
  return quantile(dur_ns, 0.1);
}

double spread_percent(const std::vector<double>& values) {
  return 100 * median_abs_deviation(values) / std::max(median(values), 1e-9);
}

std::string note(const char* what, const std::vector<double>& dur_ns, int64_t bytes) {
  return fmt::format("{}: {} (fastest tenth of {}, median absolute deviation {:.1f} %)", what,
                     format_rate(rate(bytes, best(dur_ns))), dur_ns.size(), spread_percent(dur_ns));
}

void add_method_notes(const CalibrationSamples& samples, std::vector<std::string>& notes) {
  for (const MethodSamples& method : samples.methods) {
    if (method.fetch_ns.empty() || method.read_ns.empty()) continue;
    notes.push_back(fmt::format(
        "{} on the {} core: fetches at {}, the consumer then reads at {} (spread {:.1f} %)",
        method.name, method.placement,
        format_rate(rate(samples.probe_bytes, best(method.fetch_ns))),
        format_rate(rate(samples.probe_bytes, best(method.read_ns))),
        spread_percent(method.read_ns)));
  }
}

void add_collective_notes(const CalibrationSamples& samples, std::vector<std::string>& notes) {
  if (samples.all_ranks == 1) {
    notes.push_back(
        fmt::format("one rank has no collectives: one look at the clock while it fetches costs {}",
                    format_duration(median(samples.test_ns))));
    return;
  }
  notes.push_back(fmt::format(
      "one look at a collective (MPI_Test) costs {}, starting it without "
      "blocking {}",
      format_duration(median(samples.test_ns)), format_duration(best(samples.post_ns))));
  notes.push_back(
      fmt::format("window_cost_ns, slowdown_per_byte_ns: of an 8 KiB allreduce that waits for a "
                  "late rank and is "
                  "filled via {}; preserve-replay measures the schedule's own windows",
                  samples.via));
}

struct WindowCost {
  double window_ns = 0, byte_ns = 0;
};

// What fetching adds to a window, as a line over the bytes fetched: a price of the window (the end
// is noticed in the middle of a chunk) and one of each byte (memory that the collective needs too).
WindowCost window_cost(const CalibrationSamples& samples) {
  std::vector<std::pair<double, double>> points;  // bytes, ns
  for (const WindowSamples& window : samples.windows) {
    if (window.added_ns.empty()) continue;
    points.emplace_back(median(window.fetched_bytes), median(window.added_ns));
  }
  if (points.empty()) return {};
  const auto [few_bytes, few_ns] = points.front();
  const auto [many_bytes, many_ns] = points.back();
  WindowCost cost;
  if (many_bytes > few_bytes) {
    cost.byte_ns = std::max(0.0, (many_ns - few_ns) / (many_bytes - few_bytes));
  }
  cost.window_ns = std::max(0.0, few_ns - cost.byte_ns * few_bytes);
  return cost;
}

std::vector<std::string> notes_of(const CalibrationSamples& samples) {
  std::vector<std::string> notes;
  notes.push_back(fmt::format(
      "measured {} with {} active at once on {} of {}, {}", samples.date,
      count_of(samples.ranks, "rank"),
      std::min<int64_t>(samples.ranks, static_cast<int64_t>(samples.host.cores.size())),
      count_of(static_cast<int64_t>(samples.host.cores.size()), "core"), samples.mpi_library));
  notes.push_back(samples.host.clock_note);
  // What differs from one calibration of a virtual machine to the next, when nothing else does.
  notes.push_back(
      fmt::format("the core takes {:.3f} ns for a multiplication and an addition that depend on "
                  "the one before; "
                  "all rates follow it",
                  best(samples.clock_ns) / kClockProbeSteps));
  notes.push_back(note("cold streaming read", samples.stream_ns, samples.probe_bytes));
  notes.push_back(note("cold sgemv", samples.cold_ns, samples.probe_bytes));
  notes.push_back(note("cached sgemv", samples.hot_ns, samples.probe_bytes));
  add_method_notes(samples, notes);
  add_collective_notes(samples, notes);
  if (samples.interrupted > 0) {
    notes.push_back(fmt::format("{} of {} samples left out: a rank had lost its core",
                                samples.interrupted, samples.taken));
  }
  if (samples.ranks > static_cast<int64_t>(samples.host.cores.size())) {
    notes.push_back("more ranks than cores: the ranks took turns, so these are no measurements");
  }
  return notes;
}

}  // namespace

std::vector<PrefetchMethod> rank_methods(const CalibrationSamples& samples, int64_t budget_bytes) {
  struct Ranked {
    PrefetchMethod method;
    double saved_ns;
  };
  if (samples.cold_ns.empty()) throw internal_error("nothing was measured without interruption");
  const double cold_ns = best(samples.cold_ns);
  const auto probe = static_cast<double>(samples.probe_bytes);
  const auto budget = static_cast<double>(budget_bytes);
  // While the memory delivers the budget at the consumer's own cold rate.
  const double window_ns = budget / probe * cold_ns;
  std::vector<Ranked> ranked;
  for (const MethodSamples& method : samples.methods) {
    if (method.fetch_ns.empty() || method.read_ns.empty() || method.latency_ns.empty()) continue;
    const double fetch_ns = std::max(best(method.fetch_ns), 1.0);
    const double saved_ns = cold_ns - best(method.read_ns);
    if (saved_ns < kWorthwhileSaving * cold_ns) continue;
    PrefetchMethod model;
    model.name = method.name;
    model.placement = method.placement;
    model.bandwidth_bytes_per_s = rate(samples.probe_bytes, fetch_ns);
    const double post_ns = samples.post_ns.empty() ? 0 : best(samples.post_ns);
    model.start_latency_ns = std::llround(best(method.latency_ns) + post_ns);
    model.hit_read_bandwidth_bytes_per_s = rate(samples.probe_bytes, best(method.read_ns));
    model.chunk_bytes = samples.chunk_bytes;
    const double fetched = std::min(budget, window_ns / fetch_ns * probe);
    ranked.push_back({model, fetched / probe * saved_ns});
  }
  // Near the best all are equal within the noise; there the listed order decides: real loads first,
  // which no processor drops.
  double best_ns = 0;
  for (const Ranked& entry : ranked) best_ns = std::max(best_ns, entry.saved_ns);
  const auto key = [&](const Ranked& entry) {
    return entry.saved_ns >= kAsGood * best_ns ? best_ns : entry.saved_ns;
  };
  std::ranges::stable_sort(ranked, std::ranges::greater(), key);
  std::vector<PrefetchMethod> methods;
  std::ranges::transform(ranked, std::back_inserter(methods), &Ranked::method);
  return methods;
}

std::vector<SurvivalPoint> survival_curve(const CalibrationSamples& samples,
                                          double hit_bandwidth_bytes_per_s) {
  std::vector<SurvivalPoint> measured;
  for (const FootprintSamples& point : samples.survival) {
    if (point.cold_ns.empty() || point.read_ns.empty()) continue;
    const double cold_ns = best(point.cold_ns);
    const double hit_ns = static_cast<double>(point.bytes) / hit_bandwidth_bytes_per_s * kNsPerS;
    if (cold_ns <= hit_ns) continue;  // nothing tells cold from cached here
    measured.push_back({point.bytes, (cold_ns - best(point.read_ns)) / (cold_ns - hit_ns)});
  }
  return never_rising(measured);
}

int64_t cache_share_bytes(const HostCores& host, int64_t ranks) {
  const auto cores = std::max<int64_t>(1, static_cast<int64_t>(host.cores.size()));
  const int64_t neighbours = host.cache_cores > 0 ? host.cache_cores : cores;  // on the same cache
  // Ranks fill the cores of the first cache before they go to another one; more ranks than cores
  // share all of them.
  const int64_t sharing =
      ranks <= cores ? std::min(ranks, neighbours) : (ranks * neighbours + cores - 1) / cores;
  return host.cache_bytes / std::max<int64_t>(1, sharing) + host.private_cache_bytes;
}

int64_t chunk_bytes(double test_ns, double bandwidth_bytes_per_s) {
  constexpr int64_t kLeast = 1 << 10;
  constexpr int64_t kMost = 64 << 10;
  // Of fetching. Shorter pieces lose their run-up; the next power of two may be twice as long.
  constexpr double kShortestNs = 500, kLongestNs = 1000;
  const double wanted =
      std::clamp(10 * test_ns, kShortestNs, kLongestNs) * bandwidth_bytes_per_s / kNsPerS;
  int64_t chunk = kLeast;
  while (chunk < kMost && static_cast<double>(chunk) < wanted) chunk *= 2;
  return chunk;
}

CollectiveFit fit_collective(const std::vector<CollectiveSamples>& samples, int64_t ranks) {
  CollectiveFit fit{"allreduce", "mpi", ranks, 0, 0, 0};
  double n = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
  // Relative least squares: a microsecond matters at 1 KiB and not at 1 MiB.
  for (const CollectiveSamples& sample : samples) {
    if (sample.dur_ns.empty()) continue;
    const auto x = static_cast<double>(sample.bytes);
    const double y = std::max(median(sample.dur_ns), 1.0);
    const double weight = 1 / (y * y);
    n += weight;
    sum_x += weight * x;
    sum_y += weight * y;
    sum_xx += weight * x * x;
    sum_xy += weight * x * y;
  }
  const double determinant = n * sum_xx - sum_x * sum_x;
  if (samples.size() < 2 || determinant <= 0) throw internal_error("no collectives were timed");
  const double ns_per_byte = std::max((n * sum_xy - sum_x * sum_y) / determinant, 1e-6);
  fit.latency_ns = std::round(std::max(0.0, (sum_y - ns_per_byte * sum_x) / n));
  fit.bandwidth_bytes_per_s = std::round(kNsPerS / ns_per_byte);
  for (const CollectiveSamples& sample : samples) {
    if (sample.dur_ns.empty()) continue;
    const double measured_ns = std::max(median(sample.dur_ns), 1.0);
    const double fitted_ns = fit.latency_ns + static_cast<double>(sample.bytes) * ns_per_byte;
    fit.max_relative_error =
        std::max(fit.max_relative_error, std::fabs(fitted_ns / measured_ns - 1));
  }
  fit.max_relative_error = std::round(fit.max_relative_error * 1000) / 1000;
  return fit;
}

std::vector<int64_t> footprints(const HostCores& host, int64_t ranks) {
  const int64_t share = std::min(cache_share_bytes(host, ranks), host.cache_bytes);
  std::vector<int64_t> sizes;
  for (double bytes = static_cast<double>(probe_bytes(host, ranks)) / 8;
       bytes <= 1.5 * static_cast<double>(share); bytes *= 1.3) {
    sizes.push_back(std::max<int64_t>(4096, static_cast<int64_t>(bytes) / 4096 * 4096));
    if (sizes.size() > 1 && sizes.back() == sizes[sizes.size() - 2]) sizes.pop_back();
  }
  return sizes;
}

int64_t probe_bytes(const HostCores& host, int64_t ranks) {
  const int64_t bytes = host.private_cache_bytes > 0 ? host.private_cache_bytes / 2
                                                     : cache_share_bytes(host, ranks) / 4;
  return std::max<int64_t>(bytes / 4096 * 4096, 64 << 10);
}

namespace {

// The curve is that of one method; another that ranks as good within the noise does not replace it.
void put_survivor_first(const CalibrationSamples& samples, std::vector<PrefetchMethod>& methods) {
  if (samples.methods.empty()) return;
  const MethodSamples& survivor = samples.methods[samples.survivor];
  const auto at = std::ranges::find_if(methods, [&](const PrefetchMethod& method) {
    return method.name == survivor.name && method.placement == survivor.placement;
  });
  if (at != methods.end()) std::rotate(methods.begin(), at, at + 1);
}

}  // namespace

DeviceModel device_from(const CalibrationSamples& samples) {
  DeviceModel device;
  device.name = samples.host.cpu_name;
  device.kind = "cpu";
  device.source = "measured";
  device.ranks = samples.ranks;
  device.cache_bytes = samples.host.cache_bytes;
  device.memory_bandwidth_bytes_per_s =
      std::round(rate(samples.probe_bytes, best(samples.cold_ns)));
  constexpr double kSlowestFifth = 0.8;  // by their time
  device.memory_bandwidth_low_bytes_per_s =
      std::round(rate(samples.probe_bytes, quantile(samples.cold_ns, kSlowestFifth)));
  device.cache_read_bandwidth_bytes_per_s =
      std::round(rate(samples.probe_bytes, best(samples.hot_ns)));
  device.op_floor_ns = std::llround(best(samples.floor_ns));
  const WindowCost cost = window_cost(samples);
  device.window_cost_ns =
      std::min(std::llround(cost.window_ns), static_cast<long long>(kMostWindowCostNs));
  device.slowdown_per_byte_ns = std::round(cost.byte_ns * 1e6) / 1e6;
  device.methods = rank_methods(samples, samples.probe_bytes);
  put_survivor_first(samples, device.methods);
  device.notes = notes_of(samples);
  if (device.methods.empty()) {
    device.notes.push_back("no way of prefetching makes the consumer faster on this machine");
  } else {
    device.survival =
        survival_curve(samples, device.methods.front().hit_read_bandwidth_bytes_per_s);
    device.cache_budget_bytes = std::min(
        cache_budget_between(device.survival, cache_share_bytes(samples.host, samples.ranks)),
        device.cache_bytes);
  }
  for (PrefetchMethod& method : device.methods) {
    method.bandwidth_bytes_per_s = std::round(method.bandwidth_bytes_per_s);
    method.hit_read_bandwidth_bytes_per_s = std::round(method.hit_read_bandwidth_bytes_per_s);
  }
  if (samples.all_ranks > 1) {
    device.collectives.push_back(fit_collective(samples.allreduce, samples.all_ranks));
  }
  return device;
}

}  // namespace preserve
