// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/units.h"
#include "reports/page/chart.h"
#include "reports/page/charts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr double kLane = 34, kBar = 22;

struct Bar {
  int64_t start_ns, end_ns;
  size_t item;          // for Lane::look_of
  size_t gathered = 1;  // operators that it stands for
};
struct Look {
  std::string css_class, name, hover;
};
struct Lane {
  std::string label;
  std::function<Look(size_t item)> look_of;  // made for the few bars that are drawn
  std::vector<Bar> bars{};                   // ascending start
};

std::string hover_of(const TimelineOp& op) {
  std::string text =
      fmt::format("{}. {} ({}): {}", op.ordinal, op.name, op.kind, format_duration(op.dur_ns));
  if (op.weight_bytes > 0) text += fmt::format(", weights {}", format_size(op.weight_bytes));
  if (op.kv_bytes > 0) text += fmt::format(", KV {}", format_size(op.kv_bytes));
  return text;
}

// One lane of operators per stream that has some, then the communication of all streams.
std::vector<Lane> operator_lanes(const Step& step) {
  const auto look_of = [&step](size_t item) -> Look {
    const TimelineOp& op = step.ops[item];
    return {kind_class(op.kind), op.name, hover_of(op)};
  };
  std::vector<Lane> streams(static_cast<size_t>(step.streams), Lane{"", look_of});
  Lane communication{"collectives", look_of};
  for (const TimelineOp& op : step.ops) {
    const bool communicates = op.kind == "collective" || op.kind == "p2p";
    Lane& lane = communicates ? communication : streams.at(static_cast<size_t>(op.stream));
    lane.bars.push_back({op.start_ns, op.start_ns + op.dur_ns, static_cast<size_t>(op.ordinal)});
  }
  std::vector<Lane> lanes;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (streams[i].bars.empty()) continue;
    streams[i].label = streams.size() == 1 ? "operators" : fmt::format("operators, stream {}", i);
    lanes.push_back(std::move(streams[i]));
  }
  if (!communication.bars.empty()) lanes.push_back(std::move(communication));
  return lanes;
}

std::string hover_of(const Window& window) {
  constexpr size_t kMost = 2000;  // more would not fit on a screen
  std::string text = fmt::format("under {}: {}", window.name, format_size(window.used_bytes));
  for (const Prefetch& prefetch : window.prefetches) {
    if (text.size() > kMost) return text + "\n...";
    text += fmt::format("\n{} of {} for {}{}", format_size(prefetch.length_bytes), prefetch.tensor,
                        prefetch.consumer, prefetch.next_step ? " (next step)" : "");
  }
  return text;
}

// Each window's prefetches, drawn from its start for as long as they take of its usable time.
Lane prefetch_lane(const Step& step, const Scenario& scenario) {
  const std::vector<Window>& windows = scenario.plan.windows;
  Lane lane{fmt::format("prefetch: {}", scenario.label), [&windows](size_t item) -> Look {
              const Window& window = windows[item];
              return {"k-prefetch", format_size(window.used_bytes), hover_of(window)};
            }};
  for (size_t i = 0; i < windows.size(); ++i) {
    const Window& window = windows[i];
    if (window.used_bytes == 0) continue;
    const TimelineOp& op = step.ops.at(static_cast<size_t>(window.ordinal));
    const double part = window.capacity_bytes > 0
                            ? std::min(1.0, static_cast<double>(window.used_bytes) /
                                                static_cast<double>(window.capacity_bytes))
                            : 1.0;
    lane.bars.push_back({op.start_ns,
                         op.start_ns + static_cast<int64_t>(part * static_cast<double>(op.dur_ns)),
                         i});
  }
  return lane;
}

// Too many bars: only the longest that starts in each of `limit` columns of equal width is drawn.
std::vector<Bar> downsample(const std::vector<Bar>& bars, size_t limit, TimeRange range) {
  if (bars.size() <= limit) return bars;
  const size_t columns = limit;
  const double width =
      static_cast<double>(range.to_ns - range.from_ns) / static_cast<double>(columns);
  std::vector<Bar> out;
  size_t at = 0;
  for (size_t c = 0; c < columns && at < bars.size(); ++c) {
    const auto end = range.from_ns + static_cast<int64_t>(static_cast<double>(c + 1) * width);
    const Bar* widest = nullptr;
    size_t gathered = 0;
    for (; at < bars.size() && (bars[at].start_ns < end || c + 1 == columns); ++at, ++gathered) {
      if (widest == nullptr ||
          bars[at].end_ns - bars[at].start_ns > widest->end_ns - widest->start_ns) {
        widest = &bars[at];
      }
    }
    if (widest == nullptr) continue;
    out.push_back(*widest);
    out.back().gathered = gathered;
  }
  return out;
}

void draw_lane(Svg& svg, const Lane& lane, double y, TimeRange range, size_t limit) {
  svg.row_label(y + 15, lane.label);
  std::vector<Bar> visible;
  for (const Bar& bar : lane.bars) {
    if (bar.end_ns > range.from_ns && bar.start_ns < range.to_ns) visible.push_back(bar);
  }
  const auto x_of = [&](int64_t ns) {
    return kLeft + static_cast<double>(ns - range.from_ns) /
                       static_cast<double>(range.to_ns - range.from_ns) * kPlot;
  };
  for (const Bar& bar : downsample(visible, limit, range)) {
    const double x = x_of(std::max(bar.start_ns, range.from_ns));
    const double width = std::max(0.4, x_of(std::min(bar.end_ns, range.to_ns)) - x);
    const Look look = lane.look_of(bar.item);
    svg.rect(x, y, width, kBar, look.css_class,
             bar.gathered == 1
                 ? look.hover
                 : fmt::format("{} operators, the longest: {}", bar.gathered, look.hover));
    if (bar.gathered > 1) continue;
    constexpr double kCharacter = 7;  // of the 11 px label font
    const auto room = static_cast<size_t>(std::max(0.0, (width - 6) / kCharacter));
    if (room >= 6) svg.text(x + 4, y + 15, shorten(look.name, room), "inside");
  }
}

}  // namespace

std::string timeline_chart(const Report& report, int64_t from_ns, int64_t to_ns) {
  const Step& step = *report.step;
  if (to_ns <= from_ns) return "";
  std::vector<Lane> lanes = operator_lanes(step);
  std::set<std::string> drawn;  // several measurements of one schedule share its plan
  for (const Scenario& scenario : report.scenarios) {
    if (drawn.insert(scenario.schedule_sha256).second) {
      lanes.push_back(prefetch_lane(step, scenario));
    }
  }
  const double bottom = static_cast<double>(lanes.size()) * kLane + 6;
  Svg svg(bottom + kAxis, "Timeline of one folded step",
          "Operators and collectives at their median times; below, what each schedule prefetches.");
  const auto end_ns = static_cast<double>(to_ns);
  svg.axis(static_cast<double>(from_ns), end_ns, 0, bottom, time_ticks(end_ns));
  double y = 6;
  for (const Lane& lane : lanes) {
    draw_lane(svg, lane, y, {from_ns, to_ns}, kChartElements / lanes.size());
    y += kLane;
  }
  return svg.finish();
}

TimeRange close_up(const Report& report) {
  const std::vector<TimelineOp>& ops = report.step->ops;
  constexpr size_t kOperatorsAround = 11;  // with the window in the middle, about two layers
  if (ops.size() <= 3 * kOperatorsAround) return {0, report.step->wall_ns};
  size_t middle = ops.size() / 2;
  int64_t best_ns = 0;
  for (const Scenario& scenario : report.scenarios) {
    for (const Window& window : scenario.plan.windows) {
      if (window.predicted_saved_ns <= best_ns) continue;
      best_ns = window.predicted_saved_ns;
      middle = static_cast<size_t>(window.ordinal);
    }
  }
  const size_t first = middle > kOperatorsAround ? middle - kOperatorsAround : 0;
  const size_t last = std::min(ops.size() - 1, middle + kOperatorsAround);
  return {ops[first].start_ns, ops[last].start_ns + ops[last].dur_ns};
}

}  // namespace preserve::report
