// SPDX-License-Identifier: Apache-2.0
// The samples behind the intervals: how each arm is distributed, and whether the ratios drift.

#include <algorithm>
#include <cmath>
#include <map>

#include "common/stats.h"
#include "common/units.h"
#include "db/replay_result.h"
#include "reports/page/chart.h"
#include "reports/page/charts.h"
#include "reports/table.h"

namespace preserve::report {
namespace {

constexpr double kRow = 30, kBar = 16;
constexpr size_t kDots = 300;  // of one arm; more hide one another

std::vector<double> counted(const Arm& arm) {
  std::vector<double> values;
  for (const Sample& sample : arm.taken) {
    if (sample.discarded.empty()) values.push_back(static_cast<double>(sample.step_ns));
  }
  return values;
}

struct Range {
  double low = 0, high = 1;
  void widen() {
    const double margin = std::max((high - low) * 0.04, std::fabs(high) * 1e-4);
    low -= margin;
    high += margin;
  }
};

// Outliers would squeeze the boxes: the axis ends at the 1st and 99th percentile of the arms.
std::optional<Range> common_range(const Measured& measured) {
  std::optional<Range> range;
  for (const Arm& arm : measured.arms) {
    const std::vector<double> values = counted(arm);
    if (values.empty()) continue;
    const Range own{quantile(values, 0.01), quantile(values, 0.99)};
    range = range ? Range{std::min(range->low, own.low), std::max(range->high, own.high)} : own;
  }
  if (range) range->widen();
  return range;
}

// Baseline over prefetch of each pass in which both count, in order.
std::vector<std::pair<int64_t, double>> paired_ratios(const Measured& measured) {
  const Arm* baseline = arm_named(measured, kBaselineArm);
  const Arm* prefetch = arm_named(measured, kPrefetchArm);
  if (baseline == nullptr || prefetch == nullptr) return {};
  std::map<int64_t, double> base_ns;
  for (const Sample& sample : baseline->taken) {
    if (sample.discarded.empty()) base_ns[sample.pair] = static_cast<double>(sample.step_ns);
  }
  std::vector<std::pair<int64_t, double>> ratios;
  for (const Sample& sample : prefetch->taken) {
    const auto base = base_ns.find(sample.pair);
    if (!sample.discarded.empty() || base == base_ns.end() || sample.step_ns <= 0) continue;
    ratios.emplace_back(sample.pair, base->second / static_cast<double>(sample.step_ns));
  }
  return ratios;
}

}  // namespace

std::string distribution_chart(const Measured& measured) {
  const auto range = common_range(measured);
  if (!range) return "";
  const double bottom = static_cast<double>(measured.arms.size()) * kRow + 4;
  Svg svg(
      bottom + kAxis + 2, "Step times of each arm",
      "A dot per counted sample; the box holds the middle half, its line is the median. Samples "
      "beyond the 1st and 99th percentile are drawn at the edge.");
  const auto x_of = [&](double ns) {
    return kLeft + std::clamp((ns - range->low) / (range->high - range->low), 0.0, 1.0) * kPlot;
  };
  svg.axis(range->low, range->high, 0, bottom, time_ticks(range->high));
  double y = 7;
  for (const Arm& arm : measured.arms) {
    const std::vector<double> values = counted(arm);
    svg.row_label(y + 12, arm.name);
    if (!values.empty()) {
      const double low = x_of(quantile(values, 0.25)), high = x_of(quantile(values, 0.75));
      svg.rect(low, y, std::max(1.0, high - low), kBar,
               arm.name == kPrefetchArm ? "k-prefetch box" : "k-other box",
               fmt::format("{}: {} samples, median {}", arm.name, values.size(),
                           format_duration(median(values))));
      const size_t every = values.size() / kDots + 1;
      for (size_t i = 0; i < values.size(); i += every) {
        // Spread over the row, in the order of time from top to bottom.
        const double at = static_cast<double>(i) / static_cast<double>(values.size());
        svg.dot(x_of(values[i]), y - 3 + at * (kBar + 6));
      }
      const double middle = x_of(median(values));
      svg.line(middle, y - 4, middle, y + kBar + 4, "mark");
    }
    y += kRow;
  }
  return svg.finish();
}

std::string drift_chart(const Measured& measured) {
  constexpr double kHeight = 150;
  constexpr size_t kAround = 7;  // passes on each side of a running median
  const auto ratios = paired_ratios(measured);
  if (ratios.size() < 2) return "";
  std::vector<double> values;
  values.reserve(ratios.size());
  for (const auto& [pair, ratio] : ratios) values.push_back(ratio);
  Range range{std::min(1.0, quantile(values, 0.01)), std::max(1.0, quantile(values, 0.99))};
  range.widen();
  Svg svg(kHeight + kAxis, "Speed-up of each pass over the measurement",
          "A dot per pass: its baseline over its prefetch sample. The curve is their running "
          "median; a slope of it is drift of the machine.");
  const auto first = static_cast<double>(ratios.front().first);
  const double span = std::max(1.0, static_cast<double>(ratios.back().first) - first);
  const auto x_of = [&](int64_t pair) {
    return kLeft + (static_cast<double>(pair) - first) / span * kPlot;
  };
  const auto y_of = [&](double ratio) {
    return kHeight -
           std::clamp((ratio - range.low) / (range.high - range.low), 0.0, 1.0) * (kHeight - 8);
  };
  svg.axis(first, first + span, 0, kHeight, [](double pass) { return fmt::format("{:g}", pass); });
  svg.line(kLeft, y_of(1), kLeft + kPlot, y_of(1), "mark");
  svg.row_label(y_of(1) + 4, "as fast as baseline");
  svg.row_label(12, format_ratio(range.high));
  const size_t every = ratios.size() / (4 * kDots) + 1;
  for (size_t i = 0; i < ratios.size(); i += every) {
    svg.dot(x_of(ratios[i].first), y_of(ratios[i].second));
  }
  std::string curve;
  for (size_t i = 0; i < ratios.size(); i += every) {
    const size_t from = i > kAround ? i - kAround : 0;
    const size_t to = std::min(values.size(), i + kAround + 1);
    const double middle = median(std::span(values).subspan(from, to - from));
    curve += fmt::format("{}{:.1f} {:.1f}", curve.empty() ? "M" : "L", x_of(ratios[i].first),
                         y_of(middle));
  }
  svg.path(curve, "curve");
  return svg.finish();
}

}  // namespace preserve::report
