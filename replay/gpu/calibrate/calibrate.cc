// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/calibrate.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "common/clock.h"
#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/gpu/calibrate/fits.h"
#include "replay/gpu/calibrate/graphs.h"
#include "replay/gpu/calibrate/plan.h"
#include "replay/gpu/calibrate/rounds.h"

namespace preserve {
namespace {

constexpr int64_t kFlushCaches = 4;  // whatever the replacement policy, nothing survives that
constexpr int64_t kChainBytes = 1 << 20;
constexpr int64_t kHops = 24;  // as long as a prefetch of half of L2 lasts, or less
constexpr int kLeaves[] = {0, 1, 2, 4, 8, kLeafPlaces, 32, 64};
constexpr int kShortChain = 8, kLongChain = 72;
constexpr int kRetiredParts[] = {4, 8};
// Of an operator, the part that a prefetch beside it should take: then all of it is beside it.
constexpr double kPartBeside = 1.0 / 3;
// A collective's part of the device.
constexpr int kMostStandInCtas = 16;
// Where the driver does not know the link: sixteen lanes of PCIe 4.
constexpr double kLinkBytesPerS = 25e9;

class GpuCalibration {
 public:
  GpuCalibration(GpuDevice& device, const GpuCalibrateOptions& options)
      : device_(device), options_(options), facts_(device.facts()) {}
  GpuCalibrationSamples run();

 private:
  void take_memory();
  void estimate_bandwidth();
  void run_first();
  void run_second();

  void plan_second();
  void plan_ramp_of(const GpuIssue& issue, StartWay way);
  bool takes_start_edges(const GpuIssue& issue);

  void add_footprints(CalibrationRounds& rounds, std::vector<FootprintTimes>& times) const;
  void add_halves(CalibrationRounds& rounds);
  void add_leaves(CalibrationRounds& rounds);
  void add_windows(CalibrationRounds& rounds, std::vector<WindowTimes>& windows,
                   StartWay way) const;
  void add_arrived(CalibrationRounds& rounds, std::vector<ArrivedTimes>& times) const;
  void add_retired(CalibrationRounds& rounds);
  void add_evictions(CalibrationRounds& rounds);
  void add_operators(CalibrationRounds& rounds);
  void add_victims(CalibrationRounds& rounds);

  GpuDevice& device_;
  const GpuCalibrateOptions& options_;
  const GpuFacts facts_;
  CalibrationMemory memory_;
  double bytes_per_ns_ = 1;  // of the memory, roughly
  std::vector<GpuIssue> issues_;
  GpuCalibrationSamples samples_;
};

void GpuCalibration::take_memory() {
  const auto take = [&](int64_t bytes) { return GpuRange{device_.allocate(bytes), bytes}; };
  memory_.flush = take(whole_blocks(kFlushCaches * facts_.l2_bytes));
  memory_.data = take(part_of_l2(facts_, kMostParts));
  memory_.traffic = take(part_of_l2(facts_, kL2Parts));
  memory_.chain = take(kChainBytes);
  device_.make_chain(memory_.chain.address, memory_.chain.bytes, /*seed=*/1);
  memory_.stand_in_ctas = std::clamp(facts_.sms / 8, 1, kMostStandInCtas);
}

void GpuCalibration::estimate_bandwidth() {
  const int graph = device_.add(memory_read_graph(memory_));
  device_.run(graph, 1);
  const double dur_ns = device_.run(graph, options_.runs_per_value).op_ns.at(0);
  device_.drop(graph);
  bytes_per_ns_ = static_cast<double>(memory_.flush.bytes) / std::max(dur_ns, 1.0);
}

void GpuCalibration::add_footprints(CalibrationRounds& rounds,
                                    std::vector<FootprintTimes>& times) const {
  times = plan_footprints(facts_);
  for (FootprintTimes& one : times) {
    rounds.add(footprint_graph(memory_, one.bytes),
               {{&one.cold_ns, op_time(0)}, {&one.again_ns, op_time(1)}});
  }
}

void GpuCalibration::add_windows(CalibrationRounds& rounds, std::vector<WindowTimes>& windows,
                                 StartWay way) const {
  for (WindowTimes& window : windows) {
    rounds.add(window_graph(memory_, window, way),
               {{&window.window_ns, start_between(0, 1)}, {&window.read_ns, op_time(1)}});
  }
}

void GpuCalibration::add_halves(CalibrationRounds& rounds) {
  if (device_.sm_halves().empty()) return;
  samples_.halves = plan_halves(facts_);
  for (HalfTimes& half : samples_.halves) {
    rounds.add(half_graph(memory_, half), {{&half.again_ns, op_time(0)}});
  }
}

void GpuCalibration::add_leaves(CalibrationRounds& rounds) {
  const auto step = [](const GpuRun& run) { return run.step_ns; };
  const auto launch = [](const GpuRun& run) { return run.launch_ns; };
  for (const int leaves : kLeaves) samples_.leaves.push_back({leaves, {}, {}});
  for (LeafTimes& times : samples_.leaves) {
    rounds.add(leaves_graph(memory_, fetches_of(facts_).front(), times.leaves),
               {{&times.launch_ns, launch}, {&times.step_ns, step}});
  }
  samples_.short_chain.nodes = kShortChain;
  samples_.long_chain.nodes = kLongChain;
  for (ChainTimes* chain : {&samples_.short_chain, &samples_.long_chain}) {
    rounds.add(chain_graph(memory_, chain->nodes), {{&chain->step_ns, step}});
  }
}

void GpuCalibration::run_first() {
  CalibrationRounds rounds(device_, options_);
  samples_.memory_read_bytes = memory_.flush.bytes;
  rounds.add(memory_read_graph(memory_), {{&samples_.memory_read_ns, op_time(0)}});
  add_footprints(rounds, samples_.footprints);
  samples_.grid = plan_grid(facts_, bytes_per_ns_, options_.every_chunk);
  add_windows(rounds, samples_.grid, StartWay::leaf);
  add_halves(rounds);
  add_leaves(rounds);
  samples_.first = rounds.run("ways of prefetching", options_.time_limit_ns / 2);
}

void GpuCalibration::plan_ramp_of(const GpuIssue& issue, StartWay way) {
  GpuIssue in_grid = issue;
  in_grid.eviction = GpuEviction::normal;
  const double saved_bytes_per_ns = saving_rate(in_grid, samples_.grid, samples_.footprints) / 1e9;
  if (saved_bytes_per_ns <= 0) throw internal_error("a chosen way of prefetching saves nothing");
  RampTimes ramp = plan_ramp(facts_, issue, way, saved_bytes_per_ns);
  if (!ramp.windows.empty()) samples_.ramps.push_back(std::move(ramp));
}

// Some GPUs and drivers may not: that is a finding, and no reason to measure nothing.
bool GpuCalibration::takes_start_edges(const GpuIssue& issue) {
  const WindowTimes window{issue, kRankHoldsNs[0], whole_blocks(1), {}, {}};
  try {
    device_.drop(device_.add(window_graph(memory_, window, StartWay::launch_order)));
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    samples_.no_start_edges = error.what();
    return false;
  }
}

// The chosen ways of issuing, and the best of them with lines that are evicted last.
void GpuCalibration::plan_second() {
  const GpuIssue best = issues_.front();
  std::vector<GpuIssue> planned = issues_;
  if (can_mark_last(facts_)) {
    GpuIssue last = best;
    last.eviction = GpuEviction::last;
    planned.insert(planned.begin() + 1, last);
  }
  for (const GpuIssue& issue : planned) {
    plan_ramp_of(issue, StartWay::leaf);
    for (int parts = 1; parts <= kHeldParts; ++parts) {
      samples_.arrived.push_back({issue, part_of_l2(facts_, parts), {}});
    }
  }
  if (takes_start_edges(best)) plan_ramp_of(best, StartWay::launch_order);
  plan_ramp_of(best, StartWay::side_stream);
  for (const FootprintTimes& footprint : samples_.footprints) {
    samples_.survival.push_back({best, footprint.bytes, {}});
  }
}

void GpuCalibration::add_arrived(CalibrationRounds& rounds,
                                 std::vector<ArrivedTimes>& times) const {
  for (ArrivedTimes& one : times) {
    rounds.add(arrived_graph(memory_, one), {{&one.read_ns, op_time(0)}});
  }
}

void GpuCalibration::add_retired(CalibrationRounds& rounds) {
  for (const GpuIssue& issue : issues_) {
    for (const int parts : kRetiredParts) {
      samples_.retired.push_back({issue, part_of_l2(facts_, parts), {}, {}});
    }
  }
  for (RetiredTimes& one : samples_.retired) {
    rounds.add(retired_graph(memory_, one),
               {{&one.issue_ns, gap_between(0, 1)}, {&one.read_ns, op_time(1)}});
  }
}

void GpuCalibration::add_evictions(CalibrationRounds& rounds) {
  samples_.evictions = plan_evictions(facts_);
  for (EvictionTimes& one : samples_.evictions) {
    std::optional<int64_t> set_aside;  // as it was found
    if (one.set_aside != SetAside::as_found) set_aside = set_aside_bytes(facts_, one.set_aside);
    rounds.add_with_set_aside(eviction_graph(memory_, issues_.front(), one),
                              {{&one.read_ns, op_time(0)}}, set_aside);
  }
}

void GpuCalibration::add_operators(CalibrationRounds& rounds) {
  samples_.operators = plan_operators(facts_, issues_);
  for (OperatorTimes& one : samples_.operators) {
    const int graph = device_.add(operator_graph(memory_, one, false));
    device_.run(graph, 1);
    const double alone_ns = device_.run(graph, options_.runs_per_value).op_ns.at(0);
    device_.drop(graph);
    const double rate = saving_rate(one.issue, samples_.grid, samples_.footprints) / kNsPerS;
    one.fetched_bytes = std::min(part_of_l2(facts_, kHeldParts),
                                 whole_blocks(std::llround(rate * alone_ns * kPartBeside)));
    rounds.add(operator_graph(memory_, one, false), {{&one.alone_ns, op_time(0)}});
    rounds.add(operator_graph(memory_, one, true), {{&one.beside_ns, op_time(0)}});
  }
}

void GpuCalibration::add_victims(CalibrationRounds& rounds) {
  LinkTimes& link = samples_.link.emplace();
  link.fetched_bytes = part_of_l2(facts_, kHeldParts);
  const double rate =
      facts_.host_link_bytes_per_s > 0 ? facts_.host_link_bytes_per_s : kLinkBytesPerS;
  // As long as the prefetch that runs with it.
  link.link_bytes = whole_blocks(
      std::llround(static_cast<double>(link.fetched_bytes) * rate / (1e9 * bytes_per_ns_)));
  const GpuIssue& issue = issues_.front();
  rounds.add(link_graph(memory_, link, nullptr), {{&link.alone_ns, op_time(0)}});
  rounds.add(link_graph(memory_, link, &issue), {{&link.beside_ns, op_time(0)}});

  ChaseTimes& chase = samples_.chase.emplace();
  chase.hops = kHops;
  const auto add = [&](bool cached, const GpuIssue* beside, Series& series) {
    rounds.add(chase_graph(memory_, kHops, cached, link.fetched_bytes, beside),
               {{&series, op_time(0)}});
  };
  add(true, nullptr, chase.hit_ns);
  add(true, &issue, chase.hit_beside_ns);
  add(false, nullptr, chase.miss_ns);
  add(false, &issue, chase.miss_beside_ns);
}

void GpuCalibration::run_second() {
  CalibrationRounds rounds(device_, options_);
  plan_second();
  add_footprints(rounds, samples_.references);
  for (RampTimes& ramp : samples_.ramps) add_windows(rounds, ramp.windows, ramp.way);
  add_arrived(rounds, samples_.arrived);
  add_arrived(rounds, samples_.survival);
  add_retired(rounds);
  add_evictions(rounds);
  add_operators(rounds);
  add_victims(rounds);
  samples_.second = rounds.run("the chosen ways", options_.time_limit_ns / 2);
}

GpuCalibrationSamples GpuCalibration::run() {
  const int64_t start_ns = options_.clock();
  samples_.facts = facts_;
  samples_.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
  samples_.runs_per_value = options_.runs_per_value;
  samples_.before = device_.state();
  take_memory();
  estimate_bandwidth();
  run_first();
  issues_ = choose_issues(samples_.grid, samples_.footprints);
  if (!issues_.empty()) run_second();  // where nothing helps there is nothing more to ask
  samples_.after = device_.state();
  samples_.took_s = static_cast<double>(options_.clock() - start_ns) / kNsPerS;
  return std::move(samples_);
}

}  // namespace

int64_t calibration_bytes(const GpuFacts& facts) {
  return whole_blocks(kFlushCaches * facts.l2_bytes) + part_of_l2(facts, kMostParts) +
         part_of_l2(facts, kL2Parts) + kChainBytes;
}

GpuCalibrationSamples measure_gpu(GpuDevice& device, const GpuCalibrateOptions& options) {
  const GpuFacts& facts = device.facts();
  if (facts.mig) {
    throw input_error(
        "{} is divided (MIG): a slice shares memory and L2 with others, which no calibration can "
        "tell from itself; switch MIG off (nvidia-smi -i {} -mig 0) or use another GPU",
        facts.name, facts.ordinal);
  }
  if (facts.l2_bytes < kL2Parts * kGpuPatternBytes) {
    throw input_error("{} has {} of L2: there is nothing to prefetch into", facts.name,
                      format_size(facts.l2_bytes));
  }
  const int64_t needed = calibration_bytes(facts);
  if (needed > facts.free_bytes) {
    throw input_error("calibrating {} needs {} of its memory, {} are free; end what uses it",
                      facts.name, format_size(needed), format_size(facts.free_bytes));
  }
  GpuCalibrateOptions complete = options;
  if (!complete.clock) complete.clock = monotonic_ns;
  return GpuCalibration(device, complete).run();
}

}  // namespace preserve
