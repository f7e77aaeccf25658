// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/stats.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr size_t kBaseline = 0;
constexpr size_t kPrefetch = 1;
// Below this an operator is as long as reading the clock; its ratio has no meaning.
constexpr double kShortestComparedNs = 1000;
constexpr double kFaithful = 0.05;    // of the step: beyond this its parts are listed
constexpr double kLeastRatio = 1e-6;  // of an operator that took no time: log(0) compares badly

void judge_operators(const OpTimes& times, const StepProgram& program, ReplayResult& result) {
  std::vector<double> ratios;
  for (size_t op = 0; op < times.ops; ++op) {
    if (program.ops[op].collective) continue;  // real here, real there: different by nature
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      const double recorded_ns = times.recorded(rank, op);
      if (recorded_ns < kShortestComparedNs) continue;
      const double ratio =
          std::max(times.at(kBaseline, rank, op).median_ns / recorded_ns, kLeastRatio);
      ratios.push_back(ratio);
      const auto distance = [](double value) { return std::fabs(std::log(value)); };
      if (result.fidelity_op_worst && distance(ratio) <= distance(*result.fidelity_op_worst)) {
        continue;
      }
      result.fidelity_op_worst = ratio;
      result.fidelity_op_worst_name = program.ops[op].name;
    }
  }
  if (ratios.empty()) return;
  result.fidelity_op_median = median(ratios);
  result.fidelity_op_p10 = quantile(ratios, 0.1);
  result.fidelity_op_p90 = quantile(ratios, 0.9);
}

// What the replayed step is longer or shorter by, in parts, where that is too much.
void explain_fidelity(const OpTimes& times, const StepProgram& program, int64_t link_latency_ns,
                      double baseline_ns, ReplayResult& result) {
  if (std::fabs(*result.fidelity - 1) <= kFaithful) return;
  double operators_ns = 0, collectives_ns = 0;
  for (size_t op = 0; op < times.ops; ++op) {
    const bool collective = program.ops[op].collective.has_value();
    const double link_ns = collective ? static_cast<double>(link_latency_ns) : 0;
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      const double added_ns =
          times.at(kBaseline, rank, op).median_ns - times.recorded(rank, op) - link_ns;
      (collective ? collectives_ns : operators_ns) += added_ns / static_cast<double>(times.ranks);
    }
  }
  const double added_ns = baseline_ns - static_cast<double>(result.recorded_step_ns);
  const auto text = [](double dur_ns) {
    return (dur_ns < 0 ? "-" : "+") + format_duration(std::llround(std::fabs(dur_ns)));
  };
  result.warnings.push_back(
      fmt::format("the replayed step is not the recorded one: {} of {}: operators {}, collectives "
                  "{}, idle time "
                  "and what the ranks wait for each other {}",
                  text(added_ns), format_duration(result.recorded_step_ns), text(operators_ns),
                  text(collectives_ns), text(added_ns - operators_ns - collectives_ns)));
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
std::string winner_of(const ReplayResult& result) {
  std::vector<PairedSpeedup> plans;
  std::vector<std::string> names;
  for (const ArmResult& arm : result.arms) {
    if (!arm.is_plan()) continue;
    plans.push_back(arm.paired_speedup());
    names.push_back(arm.name);
  }
  const std::optional<size_t> winner = find_winner(plans);
  return winner && !result.busy ? names[*winner] : result.arms[kBaseline].name;
}

void judge_savings(const OpTimes& times, const StepProgram& program, const ReplayArm& prefetch,
                   const Schedule& schedule, ReplayResult& result) {
  double predicted = 0;
  for (const PlannedWindow& window : schedule.plan.windows) {
    for (const PlannedPrefetch& slice : window.prefetches) predicted += slice.predicted_saved_ns;
  }
  result.predicted_saved_ns = std::llround(predicted);
  result.realised_saved_ns = std::llround(saved_ns(times, prefetch.consumers));

  double carried_bytes = 0, planned_bytes = 0;
  for (const ArmWindow& window : prefetch.windows) {
    const bool carries = program.ops[static_cast<size_t>(window.ordinal)].collective.has_value();
    for (const TensorSlice& slice : window.slices) {
      planned_bytes += static_cast<double>(slice.bytes);
      if (carries) carried_bytes += static_cast<double>(slice.bytes);
    }
  }
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
  if (carriers_ns <= 0) return;
  const double added_ns = -saved_ns(times, carriers);
  const double fetched_bytes =
      planned_bytes > 0 ? result.arms[kPrefetch].issued_bytes * carried_bytes / planned_bytes : 0;
  result.collective_slowdown = 1 + added_ns / carriers_ns;
  if (fetched_bytes > 0) result.slowdown_per_byte_ns = std::max(0.0, added_ns / fetched_bytes);
}

}  // namespace

void add_outcome(const OpTimes& times, const StepProgram& program, const ReplayArm& prefetch,
                 const Schedule& schedule, int64_t recorded_step_ns, ReplayResult& result) {
  const auto collectives = std::ranges::count_if(
      program.ops, [](const ProgramOp& op) { return op.collective.has_value(); });
  result.recorded_ranks = schedule.ranks;
  result.link_latency_ns = schedule.link_latency_ns;
  result.planned_bytes = prefetch.planned_bytes;
  result.recorded_step_ns = recorded_step_ns + collectives * schedule.link_latency_ns;
  const std::optional<Estimated>& baseline_ns = result.arms[kBaseline].step_ns;
  if (baseline_ns && result.recorded_step_ns > 0) {
    result.fidelity = baseline_ns->estimate / static_cast<double>(result.recorded_step_ns);
    judge_operators(times, program, result);
    explain_fidelity(times, program, schedule.link_latency_ns, baseline_ns->estimate, result);
  }
  result.predicted_speedup = schedule.plan.speedup;
  result.predicted_baseline_step_ns = schedule.plan.baseline_step_ns;
  result.predicted_prefetch_step_ns = schedule.plan.prefetch_step_ns;
  if (const auto& measured = result.arms[kPrefetch].speedup; measured && measured->interval()) {
    result.prediction_error = result.predicted_speedup / measured->estimate - 1;
  }
  judge_savings(times, program, prefetch, schedule, result);
  result.winner = winner_of(result);
}

}  // namespace preserve
