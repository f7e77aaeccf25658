// SPDX-License-Identifier: Apache-2.0
#include "planner/search/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/as_index.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {

namespace {

void explain_step(const Schedule& schedule, std::back_insert_iterator<fmt::memory_buffer> out) {
  const Plan& plan = schedule.plan;
  fmt::format_to(out, "strategy {}, verdict {}\n", to_string(plan.strategy),
                 to_string(plan.verdict));
  for (const std::string& reason : plan.reasons) fmt::format_to(out, "  {}\n", reason);
  fmt::format_to(out, "\nstep                          predicted\n");
  const auto row = [&](const char* name, int64_t ns) {
    const double share = plan.baseline_step_ns > 0
                             ? 100.0 * static_cast<double>(plan.baseline_step_ns - ns) /
                                   static_cast<double>(plan.baseline_step_ns)
                             : 0;
    fmt::format_to(out, "  {:<24} {:>12}  {:>6.2f} % saved\n", name, format_duration(ns), share);
  };
  row("baseline", plan.baseline_step_ns);
  row("with this plan", plan.prefetch_step_ns);
  row("only windows limit", schedule.window_limited_step_ns);
  row("only the cache limits", schedule.cache_limited_step_ns);
  row("every read hot", schedule.all_hot_step_ns);
  fmt::format_to(out,
                 "\ncache: budget {}, at most {} fetched and unread; one more MiB is worth {}\n",
                 format_size(schedule.budget_bytes), format_size(plan.cache_peak_bytes),
                 format_duration(plan.cache_shadow_price_ns_per_mib));
}

// The three changes of hardware or program that gain most.
void explain_changes(const std::vector<WhatIf>& changes,
                     std::back_insert_iterator<fmt::memory_buffer> out) {
  if (changes.empty()) return;
  fmt::format_to(out,
                 "\nplanned again with                                                    "
                 "  saves more per step\n");
  for (size_t i = 0; i < std::min<size_t>(3, changes.size()); ++i) {
    fmt::format_to(out, "  {:<68} {:>11}\n", changes[i].change,
                   format_duration(changes[i].gained_ns));
  }
}

void explain_window(const FoldedStep& step, const PlannedWindow& window,
                    const std::string& not_fuller,
                    std::back_insert_iterator<fmt::memory_buffer> out) {
  double saved_ns = 0;
  for (const PlannedPrefetch& prefetch : window.prefetches) saved_ns += prefetch.predicted_saved_ns;
  const auto ordinal = as_index(window.ordinal);
  const double length_ns = ordinal < step.ops.size() ? step.ops[ordinal].dur_ns : 0;
  fmt::format_to(out, "\n{:>5}  {:<36} {:>11} {:>11} {:>11} {:>11} {:>11}  {}\n", window.ordinal,
                 printable(window.name, 36), format_duration(length_ns),
                 format_duration(window.usable_ns), format_size(window.capacity_bytes),
                 format_size(window.used_bytes), format_duration(saved_ns), window.binds);
  if (window.shadow_price_ns_per_mib > 0) {
    fmt::format_to(out, "{:7}one more MiB here is worth {}\n", "",
                   format_duration(window.shadow_price_ns_per_mib));
  }
  if (!not_fuller.empty()) fmt::format_to(out, "{:7}not fuller: {}\n", "", not_fuller);
  for (const PlannedPrefetch& prefetch : window.prefetches) {
    fmt::format_to(out, "{:7}{:<36} {:>11} at {:<11} for {:>5} {}{}, saves {}\n", "",
                   printable(prefetch.tensor, 36), format_size(prefetch.length_bytes),
                   format_size(prefetch.offset_bytes), prefetch.consumer_ordinal,
                   printable(prefetch.consumer, 36), prefetch.next_step ? " of the next step" : "",
                   format_duration(prefetch.predicted_saved_ns));
  }
}

void measured_row(const Schedule& schedule, const Plan& plan, const char* name,
                  std::back_insert_iterator<fmt::memory_buffer> out) {
  if (!plan.measured) return;
  const PlanMeasurement& measured = *plan.measured;
  const std::string interval = measured.low && measured.high
                                   ? fmt::format("{:.3f} to {:.3f}", *measured.low, *measured.high)
                                   : "too few pairs";
  int64_t fetched_bytes = 0;
  for (const PlannedWindow& window : plan.windows) fetched_bytes += window.used_bytes;
  fmt::format_to(out, "{:<8} {:<8} {:>9}   {:<16} {:>6} {:>9} {:>10}   {}\n", name,
                 to_string(plan.strategy), format_ratio(measured.speedup), interval, measured.pairs,
                 format_ratio(plan.speedup), format_size(fetched_bytes),
                 describe(method_of(schedule, plan)));
}

}  // namespace

std::string measured_table(const Schedule& schedule) {
  const auto is_measured = [](const Plan& plan) { return plan.measured.has_value(); };
  if (!is_measured(schedule.plan) &&
      std::none_of(schedule.candidates.begin(), schedule.candidates.end(), is_measured)) {
    return {};
  }
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n{:<8} {:<8} {:>9}   {:<16} {:>6} {:>9} {:>10}   {}\n", "plan", "strategy",
                 "measured", "95 % interval", "pairs", "predicted", "fetches", "issued by");
  measured_row(schedule, schedule.plan, "chosen", out);
  for (const Plan& plan : schedule.candidates) measured_row(schedule, plan, "", out);
  return fmt::to_string(text);
}

std::string explain(const FoldedStep& step, const Schedule& schedule,
                    const Sensitivity& sensitivity) {
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  explain_step(schedule, out);
  explain_changes(sensitivity.changes, out);
  fmt::format_to(out, "\n{:>5}  {:<36} {:>11} {:>11} {:>11} {:>11} {:>11}  {}\n", "op", "window",
                 "recorded", "usable", "capacity", "fetched", "saves", "limited by");
  const std::vector<PlannedWindow>& windows = schedule.plan.windows;
  for (size_t i = 0; i < windows.size(); ++i) {
    const bool known = i < sensitivity.not_fuller.size();
    explain_window(step, windows[i], known ? sensitivity.not_fuller[i] : "", out);
  }
  if (schedule.plan.windows.empty()) fmt::format_to(out, "  (no window fetches anything)\n");
  return fmt::to_string(text);
}

}  // namespace preserve
