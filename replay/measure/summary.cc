// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/summary.h"

#include <fmt/format.h>

#include <utility>

#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

const char* meaning_of(std::string_view arm) {
  constexpr std::pair<std::string_view, const char*> kMeanings[] = {
      {"baseline", "as recorded"},
      {"prefetch", "with the plan"},
      {"null", "the plan's windows, fetching nothing"},
      {"useless", "as many bytes, which nobody reads"},
      {"hot", "every operand cached already: the bound"},
      {"overlap", "collectives in pieces during operators"},
  };
  for (const auto& [name, meaning] : kMeanings) {
    if (name == arm) return meaning;
  }
  return "";
}

std::string arm_table(const ReplayResult& result) {
  std::string out = fmt::format("{:<12} {:>12} {:>9}   {:g} % interval\n", "arm", "step", "speedup",
                                100 * result.confidence_level);
  for (const ArmResult& arm : result.arms) {
    out += fmt::format("{:<12} {:>12}", printable(arm.name),
                       arm.step_ns ? format_duration(arm.step_ns->estimate) : "-");
    std::string speedup, range;
    if (arm.speedup) {
      const auto interval = arm.speedup->interval();
      speedup = interval ? format_ratio(interval->estimate) : "-";
      range = interval ? fmt::format("{:.3f} to {:.3f}", interval->low, interval->high)
                       : fmt::format("too few pairs ({})", arm.pairs);
    }
    const std::string row = fmt::format(" {:>9}   {:<17} {}", speedup, range, meaning_of(arm.name));
    out += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string decision(const ReplayResult& result) {
  const std::string reason = undecided_reason(result);
  if (!reason.empty()) return fmt::format("{}: {}\n", to_string(result.verdict), reason);
  return fmt::format("with prefetching the step is {}\n", verdict_text(result));
}

std::string fidelity_line(const ReplayResult& result) {
  if (!result.fidelity) return "";
  std::string out = fmt::format(
      "fidelity (replayed over recorded step, 1 is a perfect copy): {:.3f}", *result.fidelity);
  if (result.fidelity_op_median && result.fidelity_op_worst) {
    out += fmt::format(", operators {:.3f} (median), worst {:.3f} ({})", *result.fidelity_op_median,
                       *result.fidelity_op_worst, printable(result.fidelity_op_worst_name, 60));
  }
  return out + "\n";
}

}  // namespace

std::string summary_of(const ReplayResult& result) {
  const std::string ranks = result.recorded_ranks > result.ranks
                                ? fmt::format("{} of {} ranks", result.ranks, result.recorded_ranks)
                                : count_of(result.ranks, "rank");
  std::string out = fmt::format("{}, {} with {}{}\n", printable(result.device_name), ranks,
                                result.link_latency_ns > 0 ? "a " : "",
                                conditions_text(result.link_latency_ns, result.collective));
  out += arm_table(result) + decision(result);
  if (!result.winner.empty()) out += fmt::format("winner: {}\n", printable(result.winner));
  const ArmResult* prefetch = result.find_arm(kPrefetchArm);
  out += fmt::format("{} of {} pairs counted, stopped by {}\n", prefetch ? prefetch->pairs : 0,
                     result.passes, printable(result.stop_reason));
  out += fidelity_line(result);
  if (prefetch == nullptr) return out;
  if (result.prediction_error) {
    out += fmt::format("prediction: predicted {}, measured {} (error {:+.1f} %)\n",
                       format_ratio(result.predicted_speedup),
                       format_ratio(prefetch->speedup->estimate), 100 * *result.prediction_error);
  }
  if (result.planned_bytes > 0) {
    out += fmt::format("fetched {} of {} planned per step and rank, saved {} (predicted {})",
                       format_size(prefetch->issued_bytes), format_size(result.planned_bytes),
                       format_duration(result.realised_saved_ns),
                       format_duration(result.predicted_saved_ns));
    out += result.collective_slowdown
               ? fmt::format("; collectives that carry it take {} the time\n",
                             format_ratio(*result.collective_slowdown))
               : "\n";
  }
  return out;
}

}  // namespace preserve
