// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "reports/page/parts.h"

namespace preserve::report {
namespace {

class Kept {
 public:
  explicit Kept(size_t operators) : marks_(operators) {}

  void add(int32_t ordinal) {
    if (!has(ordinal)) ++count_;
    marks_[static_cast<size_t>(ordinal)] = true;
  }
  bool has(int32_t ordinal) const { return marks_.at(static_cast<size_t>(ordinal)); }
  size_t count() const { return count_; }

 private:
  std::vector<bool> marks_;
  size_t count_ = 0;
};

// In this order equals are taken evenly from all of the step, not from its beginning.
uint32_t bits_backwards(int32_t ordinal) {
  auto bits = static_cast<uint32_t>(ordinal);
  bits = (bits >> 1 & 0x55555555) | (bits & 0x55555555) << 1;
  bits = (bits >> 2 & 0x33333333) | (bits & 0x33333333) << 2;
  bits = (bits >> 4 & 0x0F0F0F0F) | (bits & 0x0F0F0F0F) << 4;
  return __builtin_bswap32(bits);
}

// Both ends of prefetches, of windows that save most, until `most` operators are kept.
void keep_windows(const std::vector<Scenario>& scenarios, size_t most, Kept& kept) {
  std::vector<const Window*> windows;
  for (const Scenario& scenario : scenarios) {
    for (const Window& window : scenario.plan.windows) windows.push_back(&window);
  }
  std::ranges::stable_sort(windows, [](const Window* a, const Window* b) {
    return std::pair(b->predicted_saved_ns, bits_backwards(a->ordinal)) <
           std::pair(a->predicted_saved_ns, bits_backwards(b->ordinal));
  });
  for (const Window* window : windows) {
    if (kept.count() + 1 + window->prefetches.size() > most) return;
    kept.add(window->ordinal);
    for (const Prefetch& prefetch : window->prefetches) kept.add(prefetch.consumer_ordinal);
  }
}

void keep_longest(const std::vector<TimelineOp>& ops, size_t most, Kept& kept) {
  std::vector<std::tuple<int64_t, uint32_t, int32_t>> by_length;
  by_length.reserve(ops.size());
  for (const TimelineOp& op : ops) {
    by_length.emplace_back(-op.dur_ns, bits_backwards(op.ordinal), op.ordinal);
  }
  std::ranges::sort(by_length);
  for (const auto& [length, order, ordinal] : by_length) {
    if (kept.count() >= most) return;
    kept.add(ordinal);
  }
}

// Of what is kept, since the page has no other operators to find it by.
int32_t busiest_stream(const Step& step, const Kept& kept) {
  std::vector<double> busy_ns(static_cast<size_t>(std::max(1, step.streams)));
  for (const TimelineOp& op : step.ops) {
    if (!kept.has(op.ordinal)) continue;
    busy_ns.at(static_cast<size_t>(op.stream)) += static_cast<double>(op.dur_ns);
  }
  return static_cast<int32_t>(std::ranges::max_element(busy_ns) - busy_ns.begin());
}

int64_t exact_in_browser(double sum) {
  constexpr double kMost = 9e15;
  return std::llround(std::clamp(sum, -kMost, kMost));
}

// As script/arms.mjs lays them out: otherwise the arms would be as long as if nothing had changed
// for those.
void sum_left_out(const Step& step, const Kept& kept, Scenario& scenario) {
  const auto any = [&](std::optional<int64_t> OperatorTimes::*time) {
    return std::ranges::any_of(scenario.operators,
                               [&](const OperatorTimes& op) { return (op.*time).has_value(); });
  };
  const bool timed = any(&OperatorTimes::baseline_ns) && any(&OperatorTimes::prefetch_ns);
  const int32_t busiest = busiest_stream(step, kept);
  double baseline_ns = 0, prefetch_ns = 0;
  for (const OperatorTimes& op : scenario.operators) {
    const TimelineOp& recorded = step.ops.at(static_cast<size_t>(op.ordinal));
    if (kept.has(op.ordinal) || recorded.stream != busiest) continue;
    const auto dur_ns = static_cast<double>(recorded.dur_ns);
    const auto link_ns =
        static_cast<double>(op.kind == "collective" ? scenario.link_latency_ns : 0);
    const auto ns = [](const std::optional<int64_t>& time, double otherwise) {
      return time ? static_cast<double>(*time) : otherwise;
    };
    const double base_ns = timed ? ns(op.baseline_ns, dur_ns + link_ns) : dur_ns + link_ns;
    baseline_ns += base_ns - dur_ns;
    prefetch_ns += ns(timed ? op.prefetch_ns : op.predicted_ns, base_ns) - dur_ns;
  }
  scenario.left_out_baseline_ns = exact_in_browser(baseline_ns);
  scenario.left_out_prefetch_ns = exact_in_browser(prefetch_ns);
}

void leave_out(const Kept& kept, Scenario& scenario) {
  std::erase_if(scenario.operators, [&](const OperatorTimes& op) { return !kept.has(op.ordinal); });
  std::vector<int64_t> occupancy_bytes;
  for (size_t i = 0; i < scenario.plan.occupancy_bytes.size(); ++i) {
    if (kept.has(static_cast<int32_t>(i))) {
      occupancy_bytes.push_back(scenario.plan.occupancy_bytes[i]);
    }
  }
  scenario.plan.occupancy_bytes = std::move(occupancy_bytes);
  std::erase_if(scenario.plan.windows,
                [&](const Window& window) { return !kept.has(window.ordinal); });
  for (Window& window : scenario.plan.windows) {
    std::erase_if(window.prefetches,
                  [&](const Prefetch& prefetch) { return !kept.has(prefetch.consumer_ordinal); });
  }
}

}  // namespace

Report thinned(Report report, size_t most) {
  Step& step = *report.step.value;
  Kept kept(step.ops.size());
  for (const Scenario& scenario : report.scenarios) {  // the page links to these
    for (const WhyBar& bar : scenario.why) {
      for (const int32_t ordinal : bar.windows) kept.add(ordinal);
    }
  }
  keep_windows(report.scenarios, most / 2, kept);
  keep_longest(step.ops, most, kept);
  step.left_out = static_cast<int64_t>(step.ops.size() - kept.count());
  double left_out_bytes = 0;
  for (const TimelineOp& op : step.ops) {
    if (kept.has(op.ordinal)) continue;
    left_out_bytes += static_cast<double>(op.weight_bytes) + static_cast<double>(op.kv_bytes);
  }
  step.left_out_bytes = exact_in_browser(left_out_bytes);
  for (Scenario& scenario : report.scenarios) sum_left_out(step, kept, scenario);
  std::erase_if(step.ops, [&](const TimelineOp& op) { return !kept.has(op.ordinal); });
  for (Scenario& scenario : report.scenarios) leave_out(kept, scenario);
  return report;
}

}  // namespace preserve::report
