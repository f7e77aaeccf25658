// SPDX-License-Identifier: Apache-2.0
#include "apply/run/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/text.h"
#include "common/units.h"

namespace preserve::apply {
namespace {

constexpr size_t kMostRanks = 16;  // one line each

std::string state_of(const OutcomeHeader& header) {
  if (header.off != Off::none) return "off";
  if (header.decided_ns != 0) return "on";
  return std::string(kStateNames[static_cast<size_t>(header.state)]);
}

std::string rank_table(const Outcomes& outcomes) {
  const auto ranks = outcomes.ranks();
  std::string out = fmt::format("{:<6} {:<10} {:>12} {:>21} {:>12} {:>12}\n", "rank", "state",
                                "collectives", "steps orig/null/appl", "fetched", "not reached");
  for (size_t i = 0; i < std::min(ranks.size(), kMostRanks); ++i) {
    const OutcomeHeader& header = ranks[i]->view.header();
    const std::string steps =
        fmt::format("{}/{}/{}", header.steps[0], header.steps[1], header.steps[2]);
    out += fmt::format("{:<6} {:<10} {:>12} {:>21} {:>12} {:>12}\n", header.rank, state_of(header),
                       header.collectives, steps, format_size(header.fetched_bytes),
                       format_size(header.dropped_bytes));
  }
  if (ranks.size() > kMostRanks) {
    out += fmt::format("and {} more\n",
                       count_of(static_cast<int64_t>(ranks.size() - kMostRanks), "rank"));
  }
  return out;
}

std::string arm_line(const char* name, const ArmResult& arm) {
  std::string out = fmt::format("{:<10} {:>12}", name,
                                arm.step_ns ? format_duration(arm.step_ns->estimate) : "-");
  if (arm.speedup) {
    const auto interval = arm.speedup->interval();
    out += fmt::format(" {:>9}   {}", interval ? format_ratio(interval->estimate) : "-",
                       interval ? fmt::format("{:.3f} to {:.3f}", interval->low, interval->high)
                                : fmt::format("too few pairs ({})", arm.pairs));
  }
  return out + "\n";
}

}  // namespace

std::string table_of(const Outcomes& outcomes, const ReplayResult& result, Mode mode) {
  std::string out = rank_table(outcomes);
  out += fmt::format("{:<10} {:>12} {:>9}   95 % interval{}\n", "arm", "step", "speedup",
                     is_undecided(mode) ? "" : ", at any time");
  out += arm_line("original", result.arms[0]) + arm_line("null", result.arms[2]) +
         arm_line("applied", result.arms[1]);
  out += fmt::format("{:<10} {:>12} {:>9}\n", "predicted",
                     format_duration(result.predicted_prefetch_step_ns),
                     format_ratio(result.predicted_speedup));
  const ArmResult& applied = result.arms[1];
  if (applied.speedup && applied.speedup->interval()) {
    out += fmt::format("with the plan the program is {}\n", verdict_text(result));
  } else {
    out += fmt::format("{}: {} of original and applied steps compared\n", to_string(result.verdict),
                       count_of(applied.pairs, "pair"));
  }
  if (applied.issued_bytes > 0) {
    out += fmt::format("fetched {} of {} planned per step and rank\n",
                       format_size(applied.issued_bytes), format_size(result.planned_bytes));
  }
  out.pop_back();  // whoever prints it ends the line
  return out;
}

}  // namespace preserve::apply
