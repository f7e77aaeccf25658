// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/learned.h"

#include <algorithm>

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"
#include "db/replay_result.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr double kMostFidelity = 2;  // as of a replay

Schedule applied_schedule(const TraceDb& db, const fs::path& apply_db) {
  const std::string digest = db.meta("schedule_sha256");
  const fs::path named = db.meta("schedule_path");
  for (const fs::path& path : {named, apply_db.parent_path() / named.filename()}) {
    std::error_code error;
    if (!named.empty() && fs::is_regular_file(path, error) && sha256_of_file(path) == digest) {
      return load_schedule(path);
    }
  }
  throw input_error("{}: the schedule that was applied, {}, is missing or has changed: keep it",
                    apply_db.string(), printable(named.string()));
}

// Of the whole step, the program naming no operators.
PlanFindings findings_of(const ReplayResult& result, const Schedule& schedule) {
  PlanFindings found;
  const ArmResult& applied = *result.find_arm(kPrefetchArm);
  found.by_operator = false;
  found.speedup = applied.paired_speedup();
  found.issued_bytes = applied.issued_bytes;
  const double fidelity = std::clamp(result.fidelity.value_or(1), 1 / kMostFidelity, kMostFidelity);
  found.saved_ns = static_cast<double>(result.realised_saved_ns) / fidelity;
  const auto windows = static_cast<double>(used_windows(schedule.plan));
  const ArmResult* null = result.find_arm("null");
  const std::optional<Estimated>& original_ns = result.arms.front().step_ns;
  if (null == nullptr || !null->speedup || !original_ns || windows == 0) return found;
  const auto cost_ns = [&](double ratio) {
    return (original_ns->estimate / ratio - original_ns->estimate) / windows / fidelity;
  };
  if (const std::optional<Interval> speedup = null->speedup->interval()) {
    found.window_cost_ns =
        Interval{cost_ns(speedup->high), cost_ns(speedup->estimate), cost_ns(speedup->low)};
  }
  // What the prefetches saved before their windows cost some of it.
  found.saved_ns += std::max(0.0, cost_ns(null->speedup->estimate)) * windows;
  return found;
}

}  // namespace

CorrectedDevice learn_from_program(const FoldedStep& step, const DeviceModel& device,
                                   const fs::path& apply_db) {
  const TraceDb db = TraceDb::open(apply_db);
  if (db.meta("kind") != kApplied) {
    throw input_error("{}: expected an apply.db: --learn takes what preserve-apply measured",
                      apply_db.string());
  }
  const ReplayResult result = read_result(db);
  const Schedule schedule = applied_schedule(db, apply_db);
  if (result.find_arm(kPrefetchArm) == nullptr ||
      schedule.step_ops != static_cast<int64_t>(step.ops.size())) {
    throw input_error("{}: its plan is for a step of {}, this one has {}: learn on the same trace",
                      apply_db.string(), count_of(schedule.step_ops, "operator"), step.ops.size());
  }
  const IssueMethod& issue = method_of(schedule, schedule.plan);
  CorrectedDevice corrected{device, {}};
  auto& methods = corrected.device.methods;
  const auto used = std::ranges::find_if(methods, [&](const PrefetchMethod& method) {
    return method.name == issue.name && method.placement == issue.placement;
  });
  if (used == methods.end()) {
    throw input_error("{}: its plan was issued by {}, which {} does not have", apply_db.string(),
                      printable(issue.name, 60), printable(device.name, 60));
  }
  const auto place = used - methods.begin();
  std::rotate(methods.begin(), used, used + 1);  // corrected is the first
  MeasuredPlan measured{schedule.plan, issue,
                        std::min(methods.front().bandwidth_bytes_per_s,
                                 corrected.device.memory_bandwidth_bytes_per_s),
                        findings_of(result, schedule)};
  const MeasuredPlan* plans[] = {&measured};
  const DeviceModel first = corrected.device;
  corrected = correct_device(step, first, plans);
  auto& after = corrected.device.methods;
  std::rotate(after.begin(), after.begin() + 1, after.begin() + place + 1);
  return corrected;
}

}  // namespace preserve
