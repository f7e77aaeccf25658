// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/summary.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>

#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

std::optional<double> number(const TraceDb& db, const std::string& key) {
  const std::string text = db.meta(key);
  if (text.empty()) return std::nullopt;
  return std::strtod(text.c_str(), nullptr);
}

std::string arm_table(const TraceDb& db) {
  std::string out =
      fmt::format("{:<12} {:>12} {:>9}   {}\n", "arm", "step", "speedup", "95 % interval");
  Query arms = db.query("SELECT name FROM arm ORDER BY id");
  while (arms.next()) {
    const std::string arm(arms.text(0));
    const auto step_ns = number(db, arm + "_step_ns");
    out += fmt::format("{:<12} {:>12}", arm, step_ns ? format_duration(*step_ns) : "-");
    if (const auto speedup = number(db, arm + "_speedup")) {
      const auto low = number(db, arm + "_speedup_low");
      const auto high = number(db, arm + "_speedup_high");
      out += fmt::format(" {:>9}   ", format_ratio(*speedup));
      out += low && high ? fmt::format("{:.3f} to {:.3f}", *low, *high) : "too few pairs";
    }
    out += "\n";
  }
  return out;
}

std::string verdict_sentence(const TraceDb& db) {
  const std::string verdict = db.meta("verdict");
  const double speedup = number(db, "prefetch_speedup").value_or(1);
  const auto low = number(db, "prefetch_speedup_low");
  const auto high = number(db, "prefetch_speedup_high");
  if (!low || !high) {
    return fmt::format("AMBG: too few pairs counted to decide; {} are needed", kFewestPairs);
  }
  const std::string found = describe_speedup(Interval{*low, speedup, *high});
  if (verdict == "SAME") {
    return fmt::format("SAME: prefetching changes the step by less than half a percent: {}", found);
  }
  if (verdict == "AMBG") return fmt::format("AMBG: the measurement does not decide: {}", found);
  return fmt::format("{}: with prefetching the step is {}", verdict, found);
}

// What is not the real thing, said wherever a number of it is.
std::string stand_in_remark(const TraceDb& db) {
  const bool collectives = db.meta("collective").rfind("stand-in", 0) == 0;
  const double link_ns = number(db, "link_latency_ns").value_or(0);
  std::string remark = collectives ? " with stand-ins for the collectives" : "";
  if (link_ns <= 0) return remark;
  return fmt::format("{} {} a stand-in for a network link of {} per collective", remark,
                     collectives ? "and" : "with", format_duration(link_ns));
}

std::string ranks_text(const TraceDb& db) {
  const auto ranks = static_cast<int64_t>(number(db, "ranks").value_or(0));
  const auto recorded = static_cast<int64_t>(number(db, "recorded_ranks").value_or(0));
  return recorded > ranks ? fmt::format("{} of {} ranks", ranks, recorded)
                          : count_of(ranks, "rank");
}

}  // namespace

std::string summary_of(const TraceDb& db) {
  std::string out = fmt::format("{}, {}{}\n", printable(db.meta("device_name")), ranks_text(db),
                                stand_in_remark(db));
  out += arm_table(db);
  out += verdict_sentence(db) + stand_in_remark(db) + "\n";
  if (!db.meta("winner").empty()) out += fmt::format("winner: {}\n", db.meta("winner"));
  out += fmt::format("{} of {} pairs counted, stopped by {}\n", db.meta("pairs_counted"),
                     db.meta("pairs"), db.meta("stop_reason"));
  if (const auto fidelity = number(db, "fidelity")) {
    out += fmt::format("fidelity: replayed over recorded step {:.3f}", *fidelity);
    if (const auto ops = number(db, "fidelity_op_median")) {
      out += fmt::format(", operators {:.3f} (median), worst {:.3f} ({})", *ops,
                         number(db, "fidelity_op_worst").value_or(0),
                         printable(db.meta("fidelity_op_worst_name"), 60));
    }
    out += "\n";
  }
  if (const auto error = number(db, "prediction_error")) {
    out += fmt::format("prediction: {} foretold, {} measured: off by {:+.1f} %\n",
                       format_ratio(number(db, "predicted_speedup").value_or(1)),
                       format_ratio(number(db, "prefetch_speedup").value_or(1)), 100 * *error);
  }
  if (number(db, "planned_bytes_per_step").value_or(0) > 0) {
    out += fmt::format(
        "fetched {} of {} planned per step and rank, saving {} (foretold {}); "
        "collectives that carry it last {}\n",
        format_size(number(db, "issued_bytes_per_step").value_or(0)),
        format_size(number(db, "planned_bytes_per_step").value_or(0)),
        format_duration(number(db, "realised_saved_ns").value_or(0)),
        format_duration(number(db, "predicted_saved_ns").value_or(0)),
        format_ratio(number(db, "collective_slowdown").value_or(1)));
  }
  return out;
}

}  // namespace preserve
