// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"
#include "replay/calibrate/survival.h"
#include "replay/gpu/calibrate/fits.h"
#include "replay/gpu/calibrate/slowdown.h"

namespace preserve {
namespace {

// A method has to save this share of a cold read, or it is noise.
constexpr double kWorthwhileSaving = 0.05;
// Methods this near to the best are equally good; then the order of GpuFetch decides.
constexpr double kAsGood = 0.95;
// More CTAs than needed for this share of the best take SMs from the collective for nothing.
constexpr double kNearlyBest = 0.98;
// Surviving so much better than normal lines makes evict_last worth trying.
constexpr double kWorthwhileProtection = 0.1;

// One cell of the grid over all windows.
struct Cell {
  GpuIssue issue;
  std::map<int64_t, double> saved_ns;  // by hold
  double saved_of_longest = 0;         // share of the cold read, longest window
  double score = 0;                    // mean over the windows of what it saves over the best there
};

std::vector<Cell> cells_of(const std::vector<WindowTimes>& grid,
                           const std::vector<FootprintTimes>& footprints) {
  std::vector<Cell> cells;
  std::map<int64_t, double> best_ns;  // by hold
  for (const WindowTimes& window : grid) {
    const FootprintTimes& reference = cold_read_of(footprints, window.bytes);
    auto cell = std::ranges::find(cells, window.issue, &Cell::issue);
    if (cell == cells.end()) cell = cells.insert(cells.end(), {window.issue, {}, 0, 0});
    const double saved_ns = std::max(0.0, median(minus(reference.cold_ns, window.read_ns)));
    cell->saved_ns[window.hold_ns] = saved_ns;
    best_ns[window.hold_ns] = std::max(best_ns[window.hold_ns], saved_ns);
    if (window.hold_ns == cell->saved_ns.rbegin()->first) {
      cell->saved_of_longest = saved_ns / std::max(median(reference.cold_ns), 1.0);
    }
  }
  for (Cell& cell : cells) {
    for (const auto& [hold_ns, saved_ns] : cell.saved_ns) {
      if (saved_ns > 0) cell.score += saved_ns / best_ns[hold_ns] / std::size(kRankHoldsNs);
    }
  }
  return cells;
}

// Of one method's cells: the fewest CTAs that reach nearly the best, with their best chunk.
Cell fewest_ctas(const std::vector<Cell>& cells) {
  double best = 0;
  for (const Cell& cell : cells) best = std::max(best, cell.score);
  const Cell* chosen = nullptr;
  for (const Cell& cell : cells) {
    if (cell.score < kNearlyBest * best) continue;
    const bool fewer = chosen == nullptr || cell.issue.ctas < chosen->issue.ctas;
    const bool better =
        chosen != nullptr && cell.issue.ctas == chosen->issue.ctas && cell.score > chosen->score;
    if (fewer || better) chosen = &cell;
  }
  return *chosen;
}

// Rate of reading again what was read, of footprints that the cache surely holds.
double cache_read_bandwidth(const GpuCalibrationSamples& samples) {
  const ReadFit fit = fit_again(samples);
  if (fit.bandwidth_bytes_per_s > 0) return fit.bandwidth_bytes_per_s;
  double best = 1;
  for (const FootprintTimes& footprint : samples.footprints) {
    if (footprint.bytes > samples.facts.l2_bytes / 2) continue;
    best = std::max(best, median(rates(footprint.bytes, footprint.again_ns)));
  }
  return best;
}

PrefetchMethod method_of(const GpuCalibrationSamples& samples, const RampTimes& leaf) {
  const GpuIssue& issue = leaf.windows.front().issue;
  const Series arriving = prefetch_rates(samples, leaf);
  const Series start_ns = fit_ramp(samples, leaf).start_ns;
  PrefetchMethod method;
  method.name = word_of(kGpuFetchWords, issue.fetch);
  method.placement = "spare";
  if (!arriving.empty()) method.bandwidth_bytes_per_s = std::round(median(arriving));
  if (!start_ns.empty()) {
    method.start_latency_ns = std::llround(std::max(0.0, median(start_ns)));
  }
  method.hit_read_bandwidth_bytes_per_s =
      std::round(fit_arrived(samples.arrived, issue).bandwidth_bytes_per_s);
  method.chunk_bytes = issue.chunk_bytes;
  method.ctas = issue.ctas;
  method.eviction = word_of(kGpuEvictionWords, issue.eviction);
  method.issue = "before";  // a leaf, as all of this was measured
  return method;
}

double survivors(const GpuCalibrationSamples& samples, GpuEviction eviction) {
  for (const EvictionTimes& times : samples.evictions) {
    if (times.set_aside != SetAside::as_found || times.eviction != eviction) continue;
    const FootprintTimes& reference = cold_read_of(samples.references, times.bytes);
    return median(hit_share(reference.cold_ns, times.read_ns, reference.again_ns));
  }
  return 0;
}

std::vector<PrefetchMethod> methods_of(const GpuCalibrationSamples& samples) {
  std::vector<PrefetchMethod> methods;
  const bool protects = survivors(samples, GpuEviction::last) >=
                        survivors(samples, GpuEviction::normal) + kWorthwhileProtection;
  for (const RampTimes& ramp : samples.ramps) {
    if (ramp.way != StartWay::leaf) continue;
    if (ramp.windows.front().issue.eviction == GpuEviction::last && !protects) continue;
    const PrefetchMethod method = method_of(samples, ramp);
    if (method.bandwidth_bytes_per_s > 0) methods.push_back(method);
  }
  return methods;
}

std::vector<SurvivalPoint> survival_of(const GpuCalibrationSamples& samples) {
  std::vector<SurvivalPoint> measured;
  for (const ArrivedTimes& point : samples.survival) {
    const ReadFit hit = fit_arrived(samples.arrived, point.issue);
    const FootprintTimes& reference = cold_read_of(samples.references, point.bytes);
    if (hit.bandwidth_bytes_per_s <= 0) continue;
    const Series hot_ns(point.read_ns.size(), hit.time_ns(point.bytes));
    if (median(minus(reference.cold_ns, hot_ns)) <= 0) continue;  // nothing tells them apart
    measured.push_back({point.bytes, median(hit_share(reference.cold_ns, point.read_ns, hot_ns))});
  }
  return never_rising(measured);
}

std::string clocks(const GpuState& state) {
  const auto number = [](const std::optional<int>& value, const char* unit) {
    return value ? fmt::format("{} {}", *value, unit) : fmt::format("unknown {}", unit);
  };
  return fmt::format("SM clock {}, memory clock {}, {}", number(state.sm_clock_mhz, "MHz"),
                     number(state.memory_clock_mhz, "MHz"), number(state.temperature_c, "C"));
}

std::string rounds_note(const char* phase, const RoundsSeen& rounds) {
  const std::string driver =
      rounds.reason.empty() ? "" : fmt::format(" (driver: {})", printable(rounds.reason));
  const std::string counted = count_of(rounds.counted, "round");
  if (rounds.only_throttled) {
    return fmt::format("{} phase: {} counted although {} of them throttled{}", phase, counted,
                       rounds.throttled == 1 ? "one was" : fmt::format("{} were", rounds.throttled),
                       driver);
  }
  return fmt::format("{} phase: {} counted, left out the first one and {} throttled{}", phase,
                     counted, rounds.throttled, driver);
}

// Whether a prefetch begins with a collective that it has a launch-order edge from; empty: it does.
std::string start_edges_note(const GpuCalibrationSamples& samples) {
  if (!samples.no_start_edges.empty()) {
    return fmt::format("issue \"after\" cannot be replayed in a graph: {}", samples.no_start_edges);
  }
  for (const RampTimes& ramp : samples.ramps) {
    if (ramp.way != StartWay::launch_order || !fit_ramp(samples, ramp).start_ns.empty()) continue;
    if (fit_ramp(samples, leaf_of(samples, ramp)).start_ns.empty()) continue;
    return "issue \"after\" gains little here: launch-order edges do not let a prefetch begin with "
           "the collective (CUDA calls them best effort), and leaves do";
  }
  return {};
}

// Faster than the link can be: then the GPU's cache took the writes in. Empty: it was not.
std::string link_note(const GpuCalibrationSamples& samples) {
  constexpr double kMeasured = 1.05;
  const double nominal = samples.facts.host_link_bytes_per_s;
  if (!samples.link || nominal <= 0) return {};
  const double rate = median(rates(samples.link->link_bytes, samples.link->alone_ns));
  if (rate <= kMeasured * nominal) return {};
  return fmt::format(
      "slowdown_per_byte_ns says nothing: transfers to host memory went at {}, and the link has "
      "{}, so they cannot have used it",
      format_rate(rate), format_rate(nominal));
}

// A graph that takes longer to launch than to run: its time is the processor's. Empty: none does.
std::string launch_note(const GpuCalibrationSamples& samples) {
  for (const LeafTimes& times : samples.leaves) {
    const double launch_ns = median(times.launch_ns), step_ns = median(times.step_ns);
    if (launch_ns < step_ns) continue;
    return fmt::format(
        "window_cost_ns and op_floor_ns may be the processor's: it takes {} to launch a graph that "
        "the GPU runs every {}",
        format_duration(launch_ns), format_duration(step_ns));
  }
  return {};
}

std::vector<std::string> notes_of(const GpuCalibrationSamples& samples) {
  const GpuFacts& facts = samples.facts;
  std::vector<std::string> notes;
  notes.push_back(fmt::format(
      "measured {} by preserve-calibrate --device cuda:{} in {:.0f} s on {}, compute capability "
      "{}.{}, {} SMs, driver {}, built with CUDA {}.{}; each value of a round is the mean of {}",
      samples.date, facts.ordinal, samples.took_s, facts.name, facts.compute_major,
      facts.compute_minor, facts.sms, facts.driver.empty() ? "unknown" : facts.driver,
      facts.runtime_cuda / 1000, facts.runtime_cuda % 1000 / 10,
      count_of(samples.runs_per_value, "execution")));
  notes.push_back(rounds_note("first", samples.first));
  if (samples.second.counted > 0) notes.push_back(rounds_note("second", samples.second));
  notes.push_back(
      fmt::format("before: {}; after: {}", clocks(samples.before), clocks(samples.after)));
  for (const std::string& sentence : busy_sentences(samples.before)) notes.push_back(sentence);
  notes.push_back(fmt::format(
      "methods: by the time they save a consumer in windows of {}, {} and {}, each counting alike; "
      "fewest CTAs within 2 % of the best",
      format_duration(kRankHoldsNs[0]), format_duration(kRankHoldsNs[1]),
      format_duration(kRankHoldsNs[2])));
  for (const auto& note : {launch_note(samples), start_edges_note(samples), link_note(samples)}) {
    if (!note.empty()) notes.push_back(note);
  }
  notes.push_back(
      "slowdown_per_byte_ns: of a transfer over the host link, which stands for a collective; "
      "preserve-replay measures real ones");
  if (!samples.operators.empty()) {
    notes.emplace_back(
        "operator_slowdown_per_byte_ns: of kernels that read on all SMs (product), in 2 blocks "
        "(attention) and in 1 (small), as slowly as their waiting for memory makes them");
  }
  return notes;
}

}  // namespace

int64_t set_aside_bytes(const GpuFacts& facts, SetAside set_aside) {
  if (set_aside == SetAside::none) return 0;
  return set_aside == SetAside::largest ? facts.persisting_l2_max_bytes
                                        : facts.persisting_l2_default_bytes;
}

std::vector<std::string> busy_sentences(const GpuState& before) {
  std::vector<std::string> sentences;
  if (tells_nothing(before)) sentences.emplace_back(kNothingTold);
  if (!before.other_pids.empty()) {
    sentences.push_back(fmt::format(
        "other processes compute on the GPU (pid {}): the numbers are too low by what they take",
        fmt::join(before.other_pids, ", ")));
  }
  if (before.utilisation_percent.value_or(0) > kBusyPercent) {
    sentences.push_back(fmt::format(
        "the GPU was {} % busy before anything was measured: the numbers may be too low",
        *before.utilisation_percent));
  }
  return sentences;
}

std::vector<std::string> clock_warnings(const GpuCalibrationSamples& samples) {
  std::vector<std::string> warnings;
  for (const RoundsSeen* rounds : {&samples.first, &samples.second}) {
    if (!rounds->only_throttled) continue;
    warnings.push_back(fmt::format(
        "the clocks were held down in {} of {}, so these are the numbers of a throttled GPU{}",
        rounds->throttled, count_of(rounds->counted, "round"),
        rounds->reason.empty() ? "" : fmt::format(" (driver: {})", printable(rounds->reason))));
  }
  return warnings;
}

std::vector<GpuIssue> choose_issues(const std::vector<WindowTimes>& grid,
                                    const std::vector<FootprintTimes>& footprints) {
  const std::vector<Cell> cells = cells_of(grid, footprints);
  std::vector<Cell> best;
  for (const GpuFetch fetch : {GpuFetch::bulk_l2, GpuFetch::prefetch_l2, GpuFetch::load}) {
    std::vector<Cell> of_method;
    std::ranges::copy_if(cells, std::back_inserter(of_method),
                         [&](const Cell& cell) { return cell.issue.fetch == fetch; });
    if (of_method.empty()) continue;
    const Cell chosen = fewest_ctas(of_method);
    if (chosen.saved_of_longest >= kWorthwhileSaving) best.push_back(chosen);
  }
  double most = 0;
  for (const Cell& cell : best) most = std::max(most, cell.score);
  const auto key = [&](const Cell& cell) {
    return cell.score >= kAsGood * most ? most : cell.score;
  };
  std::ranges::stable_sort(best, std::ranges::greater(), key);
  std::vector<GpuIssue> issues;
  std::ranges::transform(best, std::back_inserter(issues), &Cell::issue);
  return issues;
}

DeviceModel device_from(const GpuCalibrationSamples& samples) {
  DeviceModel device;
  device.name = samples.facts.name;
  device.kind = "gpu";
  device.source = "measured";
  device.multiprocessors = samples.facts.sms;
  device.cache_bytes = samples.facts.l2_bytes;
  device.memory_bytes = samples.facts.memory_bytes;
  device.memory_bandwidth_bytes_per_s =
      std::round(median(rates(samples.memory_read_bytes, samples.memory_read_ns)));
  device.cache_read_bandwidth_bytes_per_s = std::round(cache_read_bandwidth(samples));
  device.op_floor_ns = std::llround(
      std::max(0.0, median(minus(samples.long_chain.step_ns, samples.short_chain.step_ns)) /
                        (samples.long_chain.nodes - samples.short_chain.nodes)));
  if (samples.link) {
    const double added_ns = median(minus(samples.link->beside_ns, samples.link->alone_ns));
    const double per_byte_ns =
        std::max(0.0, added_ns) / static_cast<double>(samples.link->fetched_bytes);
    device.slowdown_per_byte_ns = std::round(per_byte_ns * 1e9) / 1e9;
  }
  if (const Series added = added_by_leaf(samples, &LeafTimes::step_ns); !added.empty()) {
    device.window_cost_ns =
        std::llround(std::clamp(median(added), 0.0, static_cast<double>(kMostWindowCostNs)));
  }
  device.methods = methods_of(samples);
  device.measurements = measurements_of(samples);
  device.notes = notes_of(samples);
  add_slowdowns(samples, device);
  if (device.methods.empty()) {
    device.notes.push_back("no way of prefetching makes the consumer faster on this GPU");
  } else {
    device.survival = survival_of(samples);
    device.cache_budget_bytes = cache_budget(device.survival, device.cache_bytes);
  }
  return device;
}

void check_published(const DeviceModel& published, const std::string& path) {
  if (published.kind != "gpu") {
    throw input_error("--published {}: is about a {}, not about a GPU", path, published.kind);
  }
}

void add_published(DeviceModel& device, const DeviceModel& published, const std::string& path) {
  device.flops_fp16_per_s = published.flops_fp16_per_s;
  device.flops_fp8_per_s = published.flops_fp8_per_s;
  device.flops_int8_per_s = published.flops_int8_per_s;
  device.collectives = published.collectives;
  device.notes.push_back(
      fmt::format("not measured here: arithmetic rates and collectives, copied from {} ({}, "
                  "source {})",
                  path, published.name, published.source));
}

}  // namespace preserve
