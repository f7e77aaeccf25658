// SPDX-License-Identifier: Apache-2.0
// The way from the baseline to the prefetch step, and on to the bounds, as a waterfall.

#include <algorithm>

#include "common/units.h"
#include "reports/page/chart.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr double kRow = 26, kBar = 16;

std::string time_of(const WhyBar& bar) {
  return bar.total ? format_duration(bar.dur_ns) : html_signed_time(bar.dur_ns);
}

struct Span {
  double from_ns = 0, to_ns = 0;
};

// Where each bar begins and ends; a total begins at 0.
std::vector<Span> spans_of(const std::vector<WhyBar>& bars) {
  std::vector<Span> spans;
  double reached_ns = 0;
  for (const WhyBar& bar : bars) {
    const auto dur_ns = static_cast<double>(bar.dur_ns);
    spans.push_back(bar.total ? Span{0, dur_ns} : Span{reached_ns, reached_ns + dur_ns});
    reached_ns = spans.back().to_ns;
  }
  return spans;
}

std::string waterfall(const std::vector<WhyBar>& bars, const std::vector<Span>& spans) {
  double least = spans.front().to_ns, most = 0;
  for (const Span& span : spans) {
    least = std::min(least, span.to_ns);
    most = std::max(most, span.to_ns);
  }
  // Changes of a per cent would not be seen on an axis from 0.
  const double begin = least > 0.5 * most ? std::max(0.0, least - 0.5 * (most - least)) : 0;
  const double end = most > begin ? most : begin + 1;
  Svg svg(static_cast<double>(bars.size()) * kRow + kAxis + 6, "Why the step takes as long",
          fmt::format("Bars from one step time to the next; the axis begins at {}.",
                      format_duration(begin)));
  const double bottom = static_cast<double>(bars.size()) * kRow + 4;
  const auto x_of = [&](double ns) {
    return kLeft + std::max(0.0, (ns - begin) / (end - begin)) * (kPlot - 110);
  };
  svg.axis(begin, end, 0, bottom, time_ticks(end), kPlot - 110);
  double y = 5;
  for (size_t i = 0; i < bars.size(); ++i) {
    const auto [low, high] = std::minmax(spans[i].from_ns, spans[i].to_ns);
    const char* colour = bars[i].total ? "k-other" : bars[i].dur_ns < 0 ? "k-prefetch" : "k-loss";
    svg.row_label(y + 12, bars[i].name);
    svg.rect(x_of(low), y, std::max(1.5, x_of(high) - x_of(low)), kBar, colour, bars[i].meaning);
    svg.value(x_of(high) + 6, y + 12, time_of(bars[i]));
    y += kRow;
  }
  return svg.finish();
}

std::string window_links(const WhyBar& bar, const Scenario& scenario, size_t index) {
  std::string text;
  for (const int32_t ordinal : bar.windows) {
    const auto window = std::ranges::find(scenario.plan.windows, ordinal, &Window::ordinal);
    if (window == scenario.plan.windows.end()) continue;
    const std::string name =
        fmt::format("{}. {}", ordinal, escape_html(shorten(window->name, kLabelCharacters)));
    const bool listed =
        window - scenario.plan.windows.begin() < static_cast<ptrdiff_t>(kWindowRows);
    text += text.empty() ? "" : ", ";
    text += listed ? fmt::format("<a href=\"#{}\" data-ordinal=\"{}\">{}</a>",
                                 window_id(index, ordinal), ordinal, name)
                   : name;
  }
  return text;
}

}  // namespace

std::string window_id(size_t scenario, int32_t ordinal) {
  return fmt::format("window-{}-{}", scenario, ordinal);
}

std::string html_why(const Scenario& scenario, size_t index, bool with_bounds) {
  if (scenario.why.empty()) return "";
  std::string out = fmt::format("<h3>{}</h3>\n", escape_html(scenario.label));
  for (const char* part : {"measured", "predicted"}) {
    std::vector<WhyBar> bars;
    std::ranges::copy_if(scenario.why, std::back_inserter(bars),
                         [&](const WhyBar& bar) { return bar.part == part; });
    if (bars.empty() || (bars.front().part == "predicted" && !with_bounds)) continue;
    const bool measured = bars.front().part == "measured";
    out += waterfall(bars, spans_of(bars));
    HtmlTable table(measured ? "From the baseline to the step with the plan, per step"
                             : "From the predicted step to what no plan can beat, per step",
                    {"Part", number("Time"), wide("What it is"), wide("Windows it comes from")});
    for (const WhyBar& bar : bars) {
      table.row({escape_html(bar.name), escape_html(time_of(bar)), escape_html(bar.meaning),
                 window_links(bar, scenario, index)});
    }
    out += table.finish();
  }
  return out;
}

}  // namespace preserve::report
