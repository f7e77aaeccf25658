// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/replay_findings.h"

#include <charconv>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

class FindingsReader {
 public:
  FindingsReader(const TraceDb& db, const Schedule& schedule)
      : db_(db), schedule_(schedule), baseline_ns_(op_times("baseline")) {}

  PlanFindings read(const Plan& plan, const std::string& arm) const {
    PlanFindings found;
    found.speedup.pairs = static_cast<int64_t>(number(arm + "_pairs", 0));
    found.issued_bytes = number(arm + "_issued_bytes", 0);
    if (found.speedup.pairs == 0) return found;
    Interval& speedup = found.speedup.interval;
    speedup.estimate = number(arm + "_speedup");
    speedup.low = number(arm + "_speedup_low", speedup.estimate);
    speedup.high = number(arm + "_speedup_high", speedup.estimate);
    const std::vector<double> plan_ns = op_times(arm);
    std::set<int32_t> consumers, carriers;
    for (const PlannedWindow& window : plan.windows) {
      if (window.used_bytes > 0) carriers.insert(window.ordinal);
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        consumers.insert(prefetch.consumer_ordinal);
      }
    }
    found.consumers_ns =
        difference(baseline_ns_, std::vector<double>(baseline_ns_.size()), consumers);
    found.saved_ns = difference(baseline_ns_, plan_ns, consumers);
    found.collectives_added_ns = difference(plan_ns, baseline_ns_, carriers);
    if (arm == "prefetch") found.window_cost_ns = window_cost_ns(carriers.size());
    return found;
  }

 private:
  // By arm null: the windows of schedule.plan with nothing to fetch.
  std::optional<Interval> window_cost_ns(size_t windows) const {
    if (windows == 0 || number("null_pairs", 0) < kFewestPairs) return std::nullopt;
    const double step_ns = number("baseline_step_ns");
    const auto cost_ns = [&](const char* key) {
      const double speedup = number(key);
      if (speedup <= 0) {
        throw input_error("{}: {} should be positive, not {}", db_.file(), key, speedup);
      }
      return (step_ns / speedup - step_ns) / static_cast<double>(windows);
    };
    return Interval{cost_ns("null_speedup_high"), cost_ns("null_speedup"),
                    cost_ns("null_speedup_low")};
  }

  double number(const std::string& key) const {
    const std::string text = db_.meta(key);
    double value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() &&
        std::isfinite(value)) {
      return value;
    }
    throw input_error("{}: {} should be a number in its table meta, not \"{}\"", db_.file(), key,
                      printable(text, 40));
  }
  double number(const std::string& key, double absent) const {
    return db_.meta(key).empty() ? absent : number(key);
  }

  // By operator, mean over the ranks; empty when no sample of the arm counted.
  std::vector<double> op_times(const std::string& arm) const {
    std::vector<double> times;
    Query rows = db_.query(
        "SELECT ordinal, AVG(median_ns) FROM arm_op JOIN arm ON arm.id = arm_op.arm_id "
        "WHERE arm.name = ? GROUP BY ordinal ORDER BY ordinal",
        {arm});
    while (rows.next()) {
      if (rows.integer(0) != static_cast<int64_t>(times.size())) break;
      times.push_back(rows.real(1));
    }
    if (!times.empty() && static_cast<int64_t>(times.size()) != schedule_.step_ops) {
      throw input_error("{}: arm {} has times of {} operators, the step has {}", db_.file(), arm,
                        times.size(), schedule_.step_ops);
    }
    return times;
  }

  static double difference(const std::vector<double>& from, const std::vector<double>& less,
                           const std::set<int32_t>& ops) {
    double sum = 0;
    for (const int32_t op : ops) {
      const auto at = static_cast<size_t>(op);
      if (at < from.size() && at < less.size()) sum += from[at] - less[at];
    }
    return sum;
  }

  const TraceDb& db_;
  const Schedule& schedule_;
  std::vector<double> baseline_ns_;
};

}  // namespace

ReplayFindings read_findings(const TraceDb& replay, const Schedule& schedule) {
  if (replay.meta("kind") != "replay") {
    throw input_error("{} is not a replay.db", replay.file());
  }
  const FindingsReader reader(replay, schedule);
  const auto has_arm = [&](const std::string& arm) {
    return replay.query_integer("SELECT count(*) FROM arm WHERE name = ?", {arm}).value_or(0) == 1;
  };
  ReplayFindings findings;
  findings.busy = replay.meta("interrupted_kept") == "1";
  for (size_t i = 0; i <= schedule.candidates.size(); ++i) {
    const std::string arm = i == 0 ? "prefetch" : fmt::format("prefetch-{}", i);
    if (!has_arm(arm)) throw input_error("{}: arm {} is missing", replay.file(), arm);
    const Plan& plan = i == 0 ? schedule.plan : schedule.candidates[i - 1];
    findings.plans.push_back(reader.read(plan, arm));
  }
  return findings;
}

}  // namespace preserve
