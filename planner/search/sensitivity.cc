// SPDX-License-Identifier: Apache-2.0
#include "planner/search/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "common/as_index.h"
#include "common/units.h"
#include "planner/search/changes.h"
#include "planner/search/methods.h"

namespace preserve {

namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kLongerNs = 1000;
constexpr double kWorthSayingPercent = 0.1;
constexpr size_t kMostOpsOfTrials = 5'000'000;  // times windows; more take seconds

// --- each window ---------------------------------------------------------------------------------

class FullWindows {
 public:
  FullWindows(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options,
              const Schedule& schedule)
      : problem_(build_problem(step, device, options.problem)),
        ring_(step, problem_, ordinals(schedule.plan)),
        changes_(ring_, limits(options, schedule)),
        referee_(step, device,
                 {schedule.method.name, schedule.method.placement, schedule.link_latency_ns}),
        amounts_(ring_.amounts_of(schedule.plan.windows)),
        step_ns_(run_ns(amounts_)) {}

  std::string why(size_t window) {
    changes_.begin(amounts_);
    switch (changes_.full(window, amounts_)) {
      case Full::nothing_left:
        return "nothing is left that the next operators read";
      case Full::supply:
        return "asks for all that arrives in it";
      case Full::cache:
        return fmt::format("the cache is full until operator {} has read", next_reader(window));
      case Full::no:
        break;
    }
    double least_ns = 0;
    bool tried = false;
    for (const size_t which : {size_t{0}, size_t{1}}) {
      Amounts more = amounts_;
      changes_.begin(amounts_);
      if (!changes_.apply({Change::grow, which}, window, changes_.least_blocks(), more)) continue;
      const double lost_ns = run_ns(more) - step_ns_;
      least_ns = tried ? std::min(least_ns, lost_ns) : lost_ns;
      tried = true;
    }
    if (!tried) return "what is left is smaller than a request";
    const std::string more = format_size(changes_.least_blocks() * kBlockBytes);
    if (least_ns < 0.5) return fmt::format("{} more would save nothing", more);
    return fmt::format("{} more would lose {}", more, format_duration(std::llround(least_ns)));
  }

 private:
  static std::vector<int32_t> ordinals(const Plan& plan) {
    std::vector<int32_t> ordinals;
    for (const PlannedWindow& window : plan.windows) ordinals.push_back(window.ordinal);
    return ordinals;
  }

  static PlanLimits limits(const PlanOptions& options, const Schedule& schedule) {
    PlanLimits limits{schedule.budget_bytes, 0, options.min_prefetch_bytes, {}};
    for (const PlannedWindow& window : schedule.plan.windows) {
      limits.most_bytes.push_back(window.capacity_bytes);
    }
    return limits;
  }

  double run_ns(const Amounts& amounts) {
    orders_ = ring_.orders_of(amounts);
    return referee_.run(orders_).step_ns;
  }

  int32_t next_reader(size_t window) const {
    return problem_.consumers[as_index(ring_.first_consumer_after(window))].ordinal;
  }

  PlanProblem problem_;
  WindowRing ring_;
  Changes changes_;
  Referee referee_;
  PrefetchOrders orders_;
  Amounts amounts_;
  double step_ns_;
};

// --- other hardware, other programs --------------------------------------------------------------

DeviceModel larger_cache(DeviceModel device) {
  const double factor =
      static_cast<double>(device.cache_bytes + kMiB) / static_cast<double>(device.cache_bytes);
  for (SurvivalPoint& point : device.survival) {
    point.footprint_bytes = std::llround(static_cast<double>(point.footprint_bytes) * factor);
  }
  device.cache_bytes += kMiB;
  device.cache_budget_bytes += kMiB;
  return device;
}

int64_t saved_ns(const Plan& plan) {
  return plan.baseline_step_ns - plan.prefetch_step_ns;
}

// Classes of operators in the step whose slow-down the device does not have: "attention, small".
// Empty: it has all, or its prefetches end with their window.
std::string classes_without_slowdown(const FoldedStep& step, const DeviceModel& device,
                                     const PlanOptions& options) {
  const PrefetchMethod* method = choose_method(device, options.problem.method);
  if (method == nullptr || !outlasts_window(device)) return {};
  std::set<OperatorClass> lacking;
  for (const StepOp& op : step.ops) {
    const std::optional<OperatorClass> of = operator_class(step, op);
    if (of && !method->operator_slowdown_per_byte_ns[*of]) lacking.insert(*of);
  }
  std::string names;
  for (const OperatorClass of : lacking)
    names += (names.empty() ? "" : ", ") + std::string(to_string(of));
  return names;
}

std::vector<WhatIf> what_if(const FoldedStep& step, const DeviceModel& device,
                            const PlanOptions& options, const Schedule& schedule) {
  std::vector<WhatIf> changes;
  const auto consider = [&](std::string change, const DeviceModel& with, const PlanOptions& how) {
    const Plan plan = make_schedule(step, with, how).schedule.plan;
    const int64_t gained_ns = saved_ns(plan) - saved_ns(schedule.plan);
    if (gained_ns > 0) changes.push_back({std::move(change), gained_ns});
  };
  PlanOptions same = options;
  same.candidates = 1;
  PlanOptions more = same;
  if (more.problem.budget_bytes) *more.problem.budget_bytes += kMiB;
  consider("one more MiB of cache", larger_cache(device), more);
  PlanOptions longer = same;
  longer.problem.link_latency_ns += kLongerNs;
  consider("each collective one microsecond longer, besides the time that it takes", device,
           longer);
  DeviceModel changed = device;
  for (PrefetchMethod& method : changed.methods) method.bandwidth_bytes_per_s *= 2;
  consider("twice the prefetch rate, up to that of the memory", changed, same);
  changed = device;
  for (PrefetchMethod& method : changed.methods) method.start_latency_ns = 0;
  consider("prefetches that start at once", changed, same);
  if (device.slowdown_per_byte_ns > 0) {
    changed = device;
    changed.slowdown_per_byte_ns = 0;
    consider("collectives that prefetching does not slow down", changed, same);
  }
  const WindowsMode windows = options.problem.windows;
  const bool more_windows = windows == WindowsMode::collective
                                ? outlasts_window(device)
                                : windows == WindowsMode::automatic &&
                                      !classes_without_slowdown(step, device, options).empty();
  if (more_windows) {
    PlanOptions idle = same;
    idle.problem.windows = WindowsMode::idle;
    consider("windows beside quiet operators (--windows idle)", device, idle);
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const WhatIf& a, const WhatIf& b) { return a.gained_ns > b.gained_ns; });
  return changes;
}

}  // namespace

Sensitivity sensitivity(const FoldedStep& step, const DeviceModel& device,
                        const PlanOptions& options, const Schedule& schedule) {
  Sensitivity found;
  const std::vector<PlannedWindow>& windows = schedule.plan.windows;
  if (schedule.plan.strategy != Strategy::flow || windows.empty()) return found;
  PlanOptions same = options;
  same.problem.method = full_name(schedule.method);
  if (windows.size() * step.ops.size() <= kMostOpsOfTrials) {
    FullWindows full(step, device, same, schedule);
    for (size_t i = 0; i < windows.size(); ++i) found.not_fuller.push_back(full.why(i));
  }
  if (step.ops.size() <= kMostOpsToPlanAgain) {
    found.changes = what_if(step, device, same, schedule);
  }
  return found;
}

void offer_idle_windows(const FoldedStep& step, const DeviceModel& device,
                        const PlanOptions& options, Schedule& schedule) {
  PlanOptions idle = options;
  idle.problem.method = full_name(schedule.method);
  const std::string lacking = classes_without_slowdown(step, device, idle);
  if (options.strategy != Strategy::flow || lacking.empty() ||
      options.problem.windows != WindowsMode::automatic || step.ops.size() > kMostOpsToPlanAgain) {
    return;
  }
  idle.candidates = 1;
  idle.problem.windows = WindowsMode::idle;
  Plan plan = make_schedule(step, device, idle).schedule.plan;
  const int64_t gained_ns = schedule.plan.prefetch_step_ns - plan.prefetch_step_ns;
  const double percent =
      100 * static_cast<double>(gained_ns) / static_cast<double>(plan.baseline_step_ns);
  if (percent < kWorthSayingPercent) return;
  const bool offered = options.candidates > 1;
  schedule.plan.reasons.push_back(fmt::format(
      "idle windows would gain {} more, {:.2f} % of the step; not used because the device file "
      "does not say how much prefetches slow operators of class {}: preserve-calibrate --device "
      "cuda:0 measures that on the GPU; {}",
      format_duration(gained_ns), percent, lacking,
      offered ? "the first candidate has these windows"
              : "--windows idle uses these windows all the same"));
  if (!offered) return;
  plan.reasons.insert(plan.reasons.begin(),
                      "with idle windows, as if prefetches slowed no operator of class " + lacking);
  schedule.candidates.insert(schedule.candidates.begin(), std::move(plan));
  schedule.candidates.resize(
      std::min(schedule.candidates.size(), as_index(options.candidates - 1)));
}

}  // namespace preserve
