// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/rounds.h"

#include <algorithm>

#include "common/error.h"
#include "common/stats.h"

namespace preserve {
namespace {

// A fixed piece of arithmetic that takes so much longer than usual ran on a slower clock.
constexpr double kThrottledProbe = 1.1;

}  // namespace

std::function<double(const GpuRun&)> op_time(int op) {
  return [op](const GpuRun& run) { return run.op_ns.at(op); };
}

std::function<double(const GpuRun&)> start_between(int op, int later) {
  return
      [op, later](const GpuRun& run) { return run.op_start_ns.at(later) - run.op_start_ns.at(op); };
}

std::function<double(const GpuRun&)> gap_between(int op, int later) {
  return
      [op, later](const GpuRun& run) { return start_between(op, later)(run) - run.op_ns.at(op); };
}

void CalibrationRounds::add(const GpuGraph& graph, std::vector<Take> takes) {
  const bool persisting = std::ranges::any_of(
      graph.nodes, [](const GpuNode& node) { return node.eviction == GpuEviction::last; });
  experiments_.push_back({device_.add(graph), std::move(takes), persisting, {}, {}});
}

void CalibrationRounds::add_with_set_aside(const GpuGraph& graph, std::vector<Take> takes,
                                           std::optional<int64_t> set_aside_bytes) {
  experiments_.push_back({device_.add(graph), std::move(takes), true, set_aside_bytes, {}});
}

std::vector<GpuRun> CalibrationRounds::runs_of(const Experiment& experiment) {
  if (!experiment.persisting) return {device_.run(experiment.graph, options_.runs_per_value)};
  std::vector<GpuRun> runs;
  for (int i = 0; i < options_.runs_per_value; ++i) {
    device_.set_persisting_l2(experiment.set_aside_bytes);
    runs.push_back(device_.run(experiment.graph, 1));
    device_.set_persisting_l2(std::nullopt);
  }
  return runs;
}

void CalibrationRounds::run_one(Experiment& experiment) {
  const std::vector<GpuRun> runs = runs_of(experiment);
  for (const GpuRun& run : runs) {
    if (run.checksum != experiment.checksum.value_or(run.checksum)) {
      throw internal_error("the GPU read other bytes than in the round before: faulty memory");
    }
    experiment.checksum = run.checksum;
  }
  for (const Take& take : experiment.takes) {
    double sum = 0;
    for (const GpuRun& run : runs) sum += take.value(run);
    take.series->push_back(sum / static_cast<double>(runs.size()));
  }
}

RoundsSeen CalibrationRounds::run(std::string_view phase, int64_t time_limit_ns) {
  const int64_t start_ns = options_.clock();
  std::vector<bool> held_down;
  RoundsSeen seen;
  // The first round is there to warm up.
  for (int round = 0; round <= options_.most_rounds; ++round) {
    const int64_t used_ns = options_.clock() - start_ns;
    if (round > options_.least_rounds && used_ns >= time_limit_ns) break;
    if (options_.progress) {
      options_.progress(phase, static_cast<double>(used_ns), static_cast<double>(time_limit_ns));
    }
    const int64_t probe_before_ns = device_.probe_clock_ns();
    const size_t count = experiments_.size();
    for (size_t i = 0; i < count; ++i) {
      run_one(experiments_[round % 2 == 0 ? i : count - 1 - i]);
    }
    seen.probe_ns.push_back(
        static_cast<double>(std::max(probe_before_ns, device_.probe_clock_ns())));
    const std::string throttle = device_.state().throttle;
    held_down.push_back(!throttle.empty());
    if (!throttle.empty()) seen.reason = throttle;
  }
  for (const Experiment& experiment : experiments_) device_.drop(experiment.graph);
  discard(held_down, seen);
  return seen;
}

// Takes the values of rounds that do not count out of every series.
void CalibrationRounds::discard(const std::vector<bool>& held_down, RoundsSeen& seen) {
  const double usual_ns = median(seen.probe_ns);
  std::vector<bool> keeps(seen.probe_ns.size(), true);
  for (size_t i = 1; i < keeps.size(); ++i) {
    keeps[i] = !held_down[i] && seen.probe_ns[i] <= kThrottledProbe * usual_ns;
    if (!keeps[i]) ++seen.throttled;
  }
  const int rounds = static_cast<int>(keeps.size()) - 1;
  seen.only_throttled = rounds - seen.throttled < options_.least_rounds;
  if (seen.only_throttled) keeps.assign(keeps.size(), true);
  keeps[0] = false;
  const auto keep = [&](Series& series) {
    Series kept;
    for (size_t i = 0; i < series.size(); ++i) {
      if (keeps[i]) kept.push_back(series[i]);
    }
    series = std::move(kept);
  };
  for (Experiment& experiment : experiments_) {
    for (const Take& take : experiment.takes) keep(*take.series);
  }
  keep(seen.probe_ns);
  seen.counted = static_cast<int>(seen.probe_ns.size());
}

}  // namespace preserve
