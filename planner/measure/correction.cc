// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/correction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "common/as_index.h"
#include "common/units.h"
#include "planner/problem/read_gain.h"

namespace preserve {
namespace {

// No cache is faster than this many times its memory; keeps rates finite.
constexpr double kMostHitRatio = 64;
// Of what a window could carry at the method's rate: beyond, a slowed collective would never end.
constexpr double kMostSlowdown = 0.9;
// At least this share of the planned bytes arrived: the windows may carry more than modelled.
constexpr double kAllArrived = 0.995;
constexpr double kTrial = 1.25;
// Operators of a replay are compared with the recorded ones up to this ratio of their times.
constexpr double kMostFidelity = 2;
constexpr int kHalvings = 60;

double planned_bytes(const Plan& plan) {
  double bytes = 0;
  for (const PlannedWindow& window : plan.windows) bytes += static_cast<double>(window.used_bytes);
  return bytes;
}

double arrived_share(const MeasuredPlan& measured) {
  const double planned = planned_bytes(measured.plan);
  return planned > 0 ? std::clamp(measured.found.issued_bytes / planned, 0.0, 1.0) : 0;
}

// Where a rising function reaches `value`, between `low` and `high`.
double solve(double low, double high, double value, const std::function<double(double)>& rising) {
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (rising(middle) < value ? low : high) = middle;
  }
  return (low + high) / 2;
}

bool differs(double now, double before) {
  return std::fabs(now - before) > kLeastCorrection * std::fabs(before);
}

class Corrector {
 public:
  Corrector(const FoldedStep& step, const DeviceModel& device,
            std::span<const MeasuredPlan* const> plans)
      : step_(step) {
    out_.device = device;
    for (const MeasuredPlan* plan : plans) {
      if (plan->found.speedup.pairs >= kFewestPairs && planned_bytes(plan->plan) > 0) {
        plans_.push_back(plan);
      }
    }
  }

  CorrectedDevice run() {
    if (plans_.empty()) return std::move(out_);
    correct_prefetch_rate();
    correct_hit_rate();
    correct_window_cost();
    correct_slowdown();
    return std::move(out_);
  }

 private:
  PrefetchMethod& method() { return out_.device.methods.front(); }

  double median_over(const std::function<double(const MeasuredPlan&)>& value) const {
    std::vector<double> values;
    for (const MeasuredPlan* plan : plans_) values.push_back(value(*plan));
    return median(values);
  }

  // --- how fast bytes arrive: the rate at which the modelled windows carry the issued bytes

  static double carried_bytes(const Plan& plan, double factor) {
    double bytes = 0;
    for (const PlannedWindow& window : plan.windows) {
      bytes += std::min(static_cast<double>(window.used_bytes),
                        factor * static_cast<double>(window.capacity_bytes));
    }
    return bytes;
  }

  static double arrival_rate(const MeasuredPlan& measured) {
    const double issued = measured.found.issued_bytes;
    if (carried_bytes(measured.plan, 1) <= issued) return measured.planned_bandwidth_bytes_per_s;
    const double factor =
        solve(0, 1, issued, [&](double f) { return carried_bytes(measured.plan, f); });
    return measured.planned_bandwidth_bytes_per_s * factor;
  }

  // Everything arrived in windows that the model calls full.
  static bool windows_hold_more(const MeasuredPlan& measured) {
    return arrived_share(measured) >= kAllArrived &&
           std::ranges::any_of(measured.plan.windows, [](const PlannedWindow& window) {
             return window.used_bytes > 0 && window.binds == "window";
           });
  }

  void correct_prefetch_rate() {
    // The planner bounds it by the memory's rate, so a higher rate has no effect.
    const double memory = out_.device.memory_bandwidth_bytes_per_s;
    const double before = std::min(method().bandwidth_bytes_per_s, memory);
    double rate = median_over(arrival_rate);
    std::string why =
        fmt::format("{} of the planned bytes arrived in time", percent(median_over(arrived_share)));
    const bool stops = !outlasts_window(out_.device);
    if (stops && std::ranges::all_of(
                     plans_, [](const MeasuredPlan* plan) { return windows_hold_more(*plan); })) {
      rate = std::min(kTrial * before, memory);
      why = "all planned bytes arrived and more may fit";
    }
    rate = std::max(rate, before / kMostCorrection);
    if (!differs(rate, before)) return;
    method().bandwidth_bytes_per_s = rate;
    say("prefetch bandwidth of {}: {} instead of {}, since {}", method().name, format_rate(rate),
        format_rate(before), why);
  }

  // --- what a fetched byte saves: the rate at which the model saves the measured time

  double modelled_saving_ns(const MeasuredPlan& measured, double hit_rate) const {
    std::vector<double> bytes(step_.ops.size(), 0);
    for (const PlannedWindow& window : measured.plan.windows) {
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        bytes.at(as_index(prefetch.consumer_ordinal)) += static_cast<double>(prefetch.length_bytes);
      }
    }
    const double share = arrived_share(measured);
    double saved_ns = 0;
    for (size_t op = 0; op < bytes.size(); ++op) {
      if (bytes[op] <= 0) continue;
      const ReadGain gain = read_gain(step_.ops[op], out_.device, hit_rate);
      saved_ns += std::min(gain.most_ns, gain.saved_per_byte_ns * bytes[op] * share);
    }
    return saved_ns;
  }

  // Saved time scaled to the recording: operators of a replay last longer or shorter than the
  // recorded ones, by much on a busy machine, and save proportionally.
  double saved_as_recorded_ns(const MeasuredPlan& measured) const {
    if (measured.found.consumers_ns <= 0) return measured.found.saved_ns;
    std::set<int32_t> consumers;
    for (const PlannedWindow& window : measured.plan.windows) {
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        consumers.insert(prefetch.consumer_ordinal);
      }
    }
    double recorded_ns = 0;
    for (const int32_t op : consumers) recorded_ns += step_.ops.at(as_index(op)).dur_ns;
    const double scale = recorded_ns / measured.found.consumers_ns;
    return measured.found.saved_ns * std::clamp(scale, 1 / kMostFidelity, kMostFidelity);
  }

  void correct_hit_rate() {
    const double memory = out_.device.memory_bandwidth_bytes_per_s;
    const double before = hot_read_rate(out_.device, &method());
    const double gain = kNsPerS / memory - kNsPerS / before;  // saved per byte
    if (gain <= 0) return;
    const auto rate_of = [&](double saved) {
      return kNsPerS / std::max(kNsPerS / memory - saved, kNsPerS / (kMostHitRatio * memory));
    };
    const double low = rate_of(gain / kMostCorrection);
    const double high = std::max(before, rate_of(gain * kMostCorrection));
    // Averaged over the time that a byte saves, not over the rate, which has no upper bound.
    const double saved = median_over([&](const MeasuredPlan& measured) {
      const double rate = solve(low, high, saved_as_recorded_ns(measured), [&](double hit_rate) {
        return modelled_saving_ns(measured, hit_rate);
      });
      return kNsPerS / memory - kNsPerS / rate;
    });
    if (!differs(saved, gain)) return;
    const double modelled_ns =
        median_over([&](const MeasuredPlan& plan) { return modelled_saving_ns(plan, before); });
    const double found_ns =
        median_over([&](const MeasuredPlan& plan) { return saved_as_recorded_ns(plan); });
    const double rate = rate_of(saved);
    method().hit_read_bandwidth_bytes_per_s = rate;
    say("rate of reading what {} fetched: {} instead of {}, since {} per step were saved and {} "
        "predicted",
        method().name, format_rate(rate), format_rate(before), format_duration(found_ns),
        format_duration(modelled_ns));
  }

  // --- the fixed cost of a window

  void correct_window_cost() {
    std::vector<double> low, found, high;
    for (const MeasuredPlan* plan : plans_) {
      if (!plan->found.window_cost_ns) continue;
      low.push_back(plan->found.window_cost_ns->low);
      found.push_back(plan->found.window_cost_ns->estimate);
      high.push_back(plan->found.window_cost_ns->high);
    }
    if (found.empty()) return;
    const auto before = static_cast<double>(out_.device.window_cost_ns);
    if (median(low) <= before && before <= median(high)) return;  // within the noise
    const double cost_ns = std::clamp(median(found), 0.0, static_cast<double>(kMostWindowCostNs));
    if (std::llround(cost_ns) == out_.device.window_cost_ns) return;
    out_.device.window_cost_ns = std::llround(cost_ns);
    say("fixed cost of a window: {} instead of {}, measured with windows that fetch nothing",
        format_duration(cost_ns), format_duration(before));
  }

  // --- what a byte costs its collective, in addition

  struct Carried {
    double windows = 0, share = 0;  // of all bytes that the plan asks for
  };
  Carried carried_by_collectives(const Plan& plan) const {
    Carried carried;
    double bytes = 0, all_bytes = 0;
    for (const PlannedWindow& window : plan.windows) {
      all_bytes += static_cast<double>(window.used_bytes);
      if (step_.ops.at(as_index(window.ordinal)).kind != OpKind::collective) continue;
      bytes += static_cast<double>(window.used_bytes);
      carried.windows += window.used_bytes > 0;
    }
    if (all_bytes > 0) carried.share = bytes / all_bytes;
    return carried;
  }

  void correct_slowdown() {
    if (std::ranges::any_of(plans_,
                            [](const MeasuredPlan* plan) { return !plan->found.by_operator; })) {
      return;
    }
    const double rate = method().bandwidth_bytes_per_s / kNsPerS;
    const double before = out_.device.slowdown_per_byte_ns;
    const auto window_ns = static_cast<double>(out_.device.window_cost_ns);
    double cost_ns = median_over([&](const MeasuredPlan& measured) {
      const Carried carried = carried_by_collectives(measured.plan);
      const double bytes = measured.found.issued_bytes * carried.share;
      if (bytes <= 0) return 0.0;
      const double added_ns = measured.found.collectives_added_ns - window_ns * carried.windows;
      return std::max(0.0, added_ns / bytes);
    });
    cost_ns = std::min(cost_ns, kMostSlowdown / rate);
    // As a part of the time that fetching the byte takes.
    if (std::fabs(cost_ns - before) * rate < kLeastCorrection) return;
    out_.device.slowdown_per_byte_ns = cost_ns;
    say("prefetching lengthens its collective by {:.4f} ns per byte instead of {:.4f}", cost_ns,
        before);
  }

  static std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

  template <typename... Values>
  void say(fmt::format_string<Values...> format, Values&&... values) {
    out_.changes.push_back(fmt::format(format, std::forward<Values>(values)...));
  }

  const FoldedStep& step_;
  std::vector<const MeasuredPlan*> plans_;
  CorrectedDevice out_;
};

}  // namespace

CorrectedDevice correct_device(const FoldedStep& step, const DeviceModel& device,
                               std::span<const MeasuredPlan* const> plans) {
  return Corrector(step, device, plans).run();
}

}  // namespace preserve
