// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/outcome.h"

#include <algorithm>
#include <cmath>

#include "common/stats.h"

namespace preserve {
namespace {

constexpr size_t kBaseline = 0;
constexpr size_t kPrefetch = 1;
// Below this an operator is as long as reading the clock; its ratio says nothing.
constexpr double kShortestCompared_ns = 1000;
constexpr double kLeastRatio =
    1e-6;  // of an operator that took no time: 0 means that none is known

void judge_fidelity(const OpTimes& times, const StepProgram& program, Outcome& outcome) {
  std::vector<double> ratios;
  for (size_t op = 0; op < times.ops; ++op) {
    if (program.ops[op].collective) continue;  // real here, real there: different by nature
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      const double recorded_ns = times.recorded(rank, op);
      if (recorded_ns < kShortestCompared_ns) continue;
      const double ratio =
          std::max(times.at(kBaseline, rank, op).median_ns / recorded_ns, kLeastRatio);
      ratios.push_back(ratio);
      const double away = std::fabs(std::log(ratio));
      const double farthest =
          outcome.fidelity_op_worst > 0 ? std::fabs(std::log(outcome.fidelity_op_worst)) : -1;
      if (away <= farthest) continue;
      outcome.fidelity_op_worst = ratio;
      outcome.fidelity_op_worst_name = program.ops[op].name;
    }
  }
  if (!ratios.empty()) outcome.fidelity_op_median = median(ratios);
}

// Baseline minus prefetch arm, mean over ranks, summed over `ops`.
double saved_ns(const OpTimes& times, const std::vector<int32_t>& ops) {
  double saved = 0;
  for (const int32_t op : ops) {
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      saved += times.at(kBaseline, rank, static_cast<size_t>(op)).median_ns -
               times.at(kPrefetch, rank, static_cast<size_t>(op)).median_ns;
    }
  }
  return saved / static_cast<double>(times.ranks);
}

// Of the plans; the explaining arms cannot be followed. A busy machine decides nothing.
std::string winner_of(const Measurement& measurement) {
  std::vector<PairedSpeedup> plans;
  std::vector<std::string> names;
  for (const ArmResult& arm : measurement.arms) {
    if (arm.name.rfind("prefetch", 0) != 0) continue;
    plans.push_back({arm.speedup, arm.pairs});
    names.push_back(arm.name);
  }
  const std::optional<size_t> winner = find_winner(plans);
  return winner && !measurement.interrupted_kept ? names[*winner]
                                                 : measurement.arms[kBaseline].name;
}

}  // namespace

Outcome outcome_of(const Measurement& measurement, const OpTimes& times, const StepProgram& program,
                   const ReplayArm& prefetch, const Schedule& schedule, int64_t recorded_step_ns,
                   double fetched_bytes) {
  Outcome outcome;
  const auto collectives =
      std::count_if(program.ops.begin(), program.ops.end(),
                    [](const ProgramOp& op) { return op.collective.has_value(); });
  outcome.recorded_step_ns = recorded_step_ns + collectives * schedule.link_latency_ns;
  const ArmResult& baseline = measurement.arms[kBaseline];
  if (baseline.counted > 0 && outcome.recorded_step_ns > 0) {
    outcome.fidelity = baseline.median_ns / static_cast<double>(outcome.recorded_step_ns);
    judge_fidelity(times, program, outcome);
  }
  outcome.predicted_speedup = schedule.plan.speedup;
  const ArmResult& planned = measurement.arms[kPrefetch];
  if (planned.pairs > 0) {
    outcome.prediction_error = outcome.predicted_speedup / planned.speedup.estimate - 1;
  }
  double predicted = 0;
  for (const PlannedWindow& window : schedule.plan.windows) {
    for (const PlannedPrefetch& slice : window.prefetches) predicted += slice.predicted_saved_ns;
  }
  outcome.predicted_saved_ns = std::llround(predicted);
  outcome.realised_saved_ns = std::llround(saved_ns(times, prefetch.consumers));

  std::vector<int32_t> carriers;
  double carriers_ns = 0;
  for (const ArmWindow& window : prefetch.windows) {
    const auto op = static_cast<size_t>(window.ordinal);
    if (!program.ops[op].collective) continue;
    carriers.push_back(window.ordinal);
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      carriers_ns += times.at(kBaseline, rank, op).median_ns / static_cast<double>(times.ranks);
    }
  }
  if (carriers_ns > 0) {
    const double added_ns = -saved_ns(times, carriers);
    outcome.collective_slowdown = 1 + added_ns / carriers_ns;
    if (fetched_bytes > 0) outcome.slowdown_per_byte_ns = std::max(0.0, added_ns / fetched_bytes);
  }
  outcome.winner = winner_of(measurement);
  return outcome;
}

}  // namespace preserve
