// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/replay_findings.h"

#include <algorithm>
#include <set>

#include "common/error.h"
#include "db/replay_result.h"

namespace preserve {
namespace {

class FindingsReader {
 public:
  FindingsReader(const TraceDb& db, const ReplayResult& result, const Schedule& schedule)
      : db_(db), result_(result), schedule_(schedule), baseline_ns_(op_times(kBaselineArm)) {}

  PlanFindings read(const Plan& plan, const ArmResult& arm) const {
    PlanFindings found;
    found.speedup = arm.paired_speedup();
    found.issued_bytes = arm.issued_bytes;
    if (arm.pairs == 0) return found;
    const std::vector<double> plan_ns = op_times(arm.name);
    std::set<int32_t> consumers, carriers;
    for (const PlannedWindow& window : plan.windows) {
      if (window.used_bytes > 0 && is_collective(window.ordinal)) carriers.insert(window.ordinal);
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        consumers.insert(prefetch.consumer_ordinal);
      }
    }
    found.consumers_ns =
        difference(baseline_ns_, std::vector<double>(baseline_ns_.size()), consumers);
    found.saved_ns = difference(baseline_ns_, plan_ns, consumers);
    found.collectives_added_ns = difference(plan_ns, baseline_ns_, carriers);
    if (arm.name == kPrefetchArm) found.window_cost_ns = window_cost_ns(used_windows(plan));
    return found;
  }

 private:
  // A schedule of 1.1 does not list them, and has no other windows.
  bool is_collective(int32_t ordinal) const {
    const std::vector<SignatureCall>& calls = schedule_.signature;
    const auto at = std::ranges::lower_bound(calls, ordinal, {}, &SignatureCall::ordinal);
    return calls.empty() || (at != calls.end() && at->ordinal == ordinal);
  }

  // From arm null: the windows of schedule.plan with nothing to fetch.
  std::optional<Interval> window_cost_ns(int64_t windows) const {
    const ArmResult* null = result_.find_arm("null");
    const std::optional<Estimated>& baseline_ns = result_.arms.front().step_ns;
    if (windows == 0 || null == nullptr || !null->speedup || !baseline_ns) return std::nullopt;
    const std::optional<Interval> speedup = null->speedup->interval();
    if (!speedup) return std::nullopt;
    const auto cost_ns = [&](double ratio) {
      return (baseline_ns->estimate / ratio - baseline_ns->estimate) / static_cast<double>(windows);
    };
    return Interval{cost_ns(speedup->high), cost_ns(speedup->estimate), cost_ns(speedup->low)};
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
  const ReplayResult& result_;
  const Schedule& schedule_;
  std::vector<double> baseline_ns_;
};

}  // namespace

ReplayFindings read_findings(const TraceDb& replay, const Schedule& schedule) {
  const ReplayResult result = read_result(replay);
  const FindingsReader reader(replay, result, schedule);
  ReplayFindings findings;
  findings.busy = result.busy;
  for (size_t i = 0; i <= schedule.candidates.size(); ++i) {
    const std::string name = i == 0 ? kPrefetchArm : fmt::format("{}-{}", kPrefetchArm, i);
    const ArmResult* arm = result.find_arm(name);
    if (arm == nullptr) throw input_error("{}: arm {} is missing", replay.file(), name);
    findings.plans.push_back(
        reader.read(i == 0 ? schedule.plan : schedule.candidates[i - 1], *arm));
  }
  return findings;
}

}  // namespace preserve
