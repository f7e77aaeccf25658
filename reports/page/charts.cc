// SPDX-License-Identifier: Apache-2.0
#include "reports/page/charts.h"

#include <algorithm>

#include "common/units.h"
#include "reports/page/chart.h"
#include "reports/table.h"

namespace preserve::report {
namespace {

constexpr double kRow = 26, kBar = 16;

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

}  // namespace

std::string kind_class(const std::string& kind) {
  return kind.empty() || kind.front() == '[' ? "k-none" : fmt::format("k-{}", kind);
}

std::string class_chart(const TimeUse& use) {
  // A thousand ranks make an unreadable chart; the table below has them all.
  const size_t rows = std::min<size_t>(use.ranks.size(), 32);
  Svg svg(static_cast<double>(rows) * kRow + kAxis + 6, "Time by operator class",
          "One bar per rank, divided into the classes of the table below.");
  const double bottom = static_cast<double>(rows) * kRow + 4;
  svg.axis(0, 100, 0, bottom, [](double v) { return fmt::format("{:.0f} %", v); });
  for (size_t r = 0; r < rows; ++r) {
    const RankTime& rank = use.ranks[r];
    const double y = static_cast<double>(r) * kRow + 5;
    svg.row_label(y + 12, (rank.rank ? "rank " : "") + rank.name());
    double x = kLeft;
    for (size_t c = 0; c < kTimeClasses.size(); ++c) {
      const double part = share(static_cast<double>(rank.classes[c].exclusive_ns),
                                static_cast<double>(rank.wall_ns));
      if (part <= 0) continue;
      svg.rect(x, y, part * kPlot, kBar, kind_class(kTimeClasses[c]),
               fmt::format("{}: {:.1f} %", kTimeClasses[c], part * 100));
      if (part > 0.09) svg.text(x + 5, y + 12, kTimeClasses[c], "inside");
      x += part * kPlot;
    }
  }
  return svg.finish();
}

std::string collective_chart(const TimeUse& use) {
  const size_t rows = std::min<size_t>(use.collectives.size(), 16);
  double longest = 1;
  for (size_t i = 0; i < rows; ++i) {
    longest = std::max(longest, static_cast<double>(use.collectives[i].p90_ns));
  }
  Svg svg(static_cast<double>(rows) * kRow + kAxis + 6, "Length of collectives",
          "A bar from the 10th to the 90th percentile of the length, with a line at the median.");
  const double bottom = static_cast<double>(rows) * kRow + 4;
  svg.axis(0, longest, 0, bottom, time_ticks(longest));
  for (size_t i = 0; i < rows; ++i) {
    const CollectiveGroup& group = use.collectives[i];
    const double y = static_cast<double>(i) * kRow + 5;
    const auto x_of = [&](int64_t dur_ns) {
      return kLeft + static_cast<double>(dur_ns) / longest * kPlot;
    };
    const std::string name =
        fmt::format("{} {}", group.function, group.bytes ? format_size(*group.bytes) : "?");
    svg.row_label(y + 12, name);
    svg.rect(x_of(group.p10_ns), y, std::max(1.0, x_of(group.p90_ns) - x_of(group.p10_ns)), kBar,
             "k-collective",
             fmt::format("{}: p10 {}, median {}, p90 {}", name, format_duration(group.p10_ns),
                         format_duration(group.median_ns), format_duration(group.p90_ns)));
    svg.line(x_of(group.median_ns), y - 3, x_of(group.median_ns), y + kBar + 3, "mark");
  }
  return svg.finish();
}

std::string operator_chart(const TimeUse& use) {
  const size_t rows = std::min<size_t>(use.top.size(), 12);
  if (rows == 0) return "";
  const auto longest = static_cast<double>(std::max<int64_t>(1, use.top.front().total_ns));
  const double bottom = static_cast<double>(rows) * kRow + 4;
  Svg svg(bottom + kAxis + 2, "Total time of the top operators", "One bar per operator name.");
  svg.axis(0, longest, 0, bottom, time_ticks(longest));
  for (size_t i = 0; i < rows; ++i) {
    const OperatorTotal& total = use.top[i];
    const double y = static_cast<double>(i) * kRow + 5;
    // [others] may be longer than the longest name: its bar ends at the plot's edge, its row tells.
    const double part = std::min(1.0, static_cast<double>(total.total_ns) / longest);
    svg.row_label(y + 12, total.name);
    svg.rect(kLeft, y, part * kPlot, kBar, kind_class(total.kind),
             fmt::format("{} ({}): {}", total.name, total.kind, format_duration(total.total_ns)));
  }
  return svg.finish();
}

std::string arms_chart(const Measured& measured) {
  double low = 1, high = 1;
  size_t rows = 0;
  for (const Arm& arm : measured.arms) {
    if (!arm.speedup) continue;
    ++rows;
    low = std::min(low, arm.speedup->low);
    high = std::max(high, arm.speedup->high);
  }
  if (rows == 0) return "";
  const double margin = std::max(0.01, (high - low) * 0.08);
  low -= margin;
  high += margin;
  Svg svg(static_cast<double>(rows) * kRow + kAxis + 6, "Speed-up over baseline by arm",
          "A bar over the confidence interval with a line at the estimate; 1 is as fast as the "
          "baseline.");
  const double bottom = static_cast<double>(rows) * kRow + 4;
  const auto x_of = [&](double value) { return kLeft + (value - low) / (high - low) * kPlot; };
  svg.axis(low, high, 0, bottom, [](double v) { return fmt::format("{:.3g}x", v); });
  svg.line(x_of(1), 0, x_of(1), bottom, "mark");
  double y = 5;
  for (const Arm& arm : measured.arms) {
    if (!arm.speedup) continue;
    svg.row_label(y + 12, arm.name);
    svg.rect(x_of(arm.speedup->low), y,
             std::max(2.0, x_of(arm.speedup->high) - x_of(arm.speedup->low)), kBar,
             arm.name == "prefetch" ? "k-prefetch" : "k-other",
             fmt::format("{}: {}", arm.name, speedup_text(*arm.speedup)));
    svg.line(x_of(arm.speedup->estimate), y - 3, x_of(arm.speedup->estimate), y + kBar + 3, "mark");
    y += kRow;
  }
  return svg.finish();
}

std::string window_chart(const PlanView& plan) {
  if (plan.windows.empty()) return "";
  constexpr double kHeight = 130, kTop = 6;
  // Neighbouring windows share a column when there are too many to see; the column shows the
  // fullest.
  const size_t columns = std::min<size_t>(plan.windows.size(), kChartElements / 8);
  int64_t largest = 1;
  for (const Window& window : plan.windows) {
    largest = std::max({largest, window.capacity_bytes, window.used_bytes});
  }
  Svg svg(
      kHeight + kAxis, "Bytes per window",
      "One column per window: the outline is what fits into it, the filled part what is planned.");
  const double width = kPlot / static_cast<double>(columns);
  const auto height_of = [&](int64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(largest) * (kHeight - kTop);
  };
  svg.row_label(kTop + 10, format_size(largest));
  svg.row_label(kHeight, "0");
  for (size_t c = 0; c < columns; ++c) {
    const size_t first = c * plan.windows.size() / columns;
    const size_t last = (c + 1) * plan.windows.size() / columns;
    const Window& window = *std::max_element(
        plan.windows.begin() + static_cast<ptrdiff_t>(first),
        plan.windows.begin() + static_cast<ptrdiff_t>(last),
        [](const Window& a, const Window& b) { return a.used_bytes < b.used_bytes; });
    const std::string hover =
        fmt::format("{} ({}): {} of {} used", window.name, window.ordinal,
                    format_size(window.used_bytes), format_size(window.capacity_bytes));
    const double x = kLeft + static_cast<double>(c) * width;
    const double bar = std::max(0.8, width * 0.8);
    svg.rect(x, kHeight - height_of(window.capacity_bytes), bar, height_of(window.capacity_bytes),
             "outline", hover);
    svg.rect(x, kHeight - height_of(window.used_bytes), bar, height_of(window.used_bytes),
             "k-prefetch", hover);
  }
  svg.line(kLeft, kHeight, kLeft + kPlot, kHeight, "axis");
  svg.text(kLeft + kPlot / 2, kHeight + 16, "windows in the order of the step", "tick");
  return svg.finish();
}

std::string cache_chart(const Step& step, const PlanView& plan) {
  if (plan.occupancy_bytes.empty() || step.wall_ns <= 0) return "";
  constexpr double kHeight = 140, kTop = 8;
  int64_t largest = std::max<int64_t>(plan.budget_bytes, 1);
  for (const int64_t bytes : plan.occupancy_bytes) largest = std::max(largest, bytes);
  Svg svg(
      kHeight + kAxis, "Planned cache occupancy over the step",
      "Bytes that were prefetched and not yet read, after each operator; the line is the budget.");
  const auto wall_ns = static_cast<double>(step.wall_ns);
  const auto x_of = [&](int64_t ns) {
    return kLeft + std::clamp(static_cast<double>(ns) / wall_ns, 0.0, 1.0) * kPlot;
  };
  const auto y_of = [&](int64_t bytes) {
    return kHeight - static_cast<double>(bytes) / static_cast<double>(largest) * (kHeight - kTop);
  };
  svg.axis(0, wall_ns, kTop, kHeight, time_ticks(wall_ns));
  // One point per operator, or per column (its maximum) when there are more than can be drawn.
  const size_t count = plan.occupancy_bytes.size();
  const size_t columns = std::min(count, kChartElements / 4);
  std::string path = fmt::format("M{:.1f} {:.1f}", kLeft, kHeight);
  int64_t previous = plan.occupancy_bytes.back();  // the ring: what the last step left over
  for (size_t c = 0; c < columns; ++c) {
    const size_t first = c * count / columns, last = (c + 1) * count / columns;
    const int64_t bytes =
        *std::max_element(plan.occupancy_bytes.begin() + static_cast<ptrdiff_t>(first),
                          plan.occupancy_bytes.begin() + static_cast<ptrdiff_t>(last));
    const TimelineOp& op = step.ops[last - 1];
    const double x = x_of(op.start_ns + op.dur_ns);
    path += fmt::format("L{:.1f} {:.1f}L{:.1f} {:.1f}", c == 0 ? kLeft : x, y_of(previous), x,
                        y_of(bytes));
    previous = bytes;
  }
  path += fmt::format("L{0:.1f} {1:.1f}L{0:.1f} {2:.1f}Z", kLeft + kPlot, y_of(previous), kHeight);
  svg.path(path, "area");
  svg.line(kLeft, y_of(plan.budget_bytes), kLeft + kPlot, y_of(plan.budget_bytes), "limit");
  svg.row_label(y_of(plan.budget_bytes) + 4,
                fmt::format("budget {}", format_size(plan.budget_bytes)));
  svg.row_label(kHeight, "0");
  return svg.finish();
}

}  // namespace preserve::report
