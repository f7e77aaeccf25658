// SPDX-License-Identifier: Apache-2.0
// The first thing on the page: what was found, how sure that is, why, and what would help.

#include <algorithm>

#include "common/units.h"
#include "reports/page/chart.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr double kRow = 22, kBar = 12;
constexpr double kAxisWidth = kPlot - 170;  // room for the values on the right

const char* css_class(const std::string& verdict) {
  if (verdict == "FAST") return "fast";
  if (verdict == "SLOW") return "slow";
  return "plain";
}

const char* css_class(const Headline::Mark& mark) {
  if (mark.name == "predicted") return "k-other";
  return mark.name.starts_with("bound") ? "k-none" : "k-prefetch";
}

std::string value_of(const Headline::Mark& mark) {
  return mark.low ? speedup_text({*mark.low, mark.estimate, *mark.high})
                  : format_ratio(mark.estimate);
}

// Every speed-up on one axis, the line at 1.
std::string marks_chart(const Headline& headline) {
  double low = 1, high = 1;
  for (const Headline::Mark& mark : headline.marks) {
    low = std::min(low, mark.low.value_or(mark.estimate));
    high = std::max(high, mark.high.value_or(mark.estimate));
  }
  const double margin = std::max(0.005, (high - low) * 0.04);
  low -= margin;
  high += margin;
  const double bottom = static_cast<double>(headline.marks.size()) * kRow + 4;
  Svg svg(
      bottom + kAxis, "Speed-up: measured, predicted and the bounds",
      "Where a mark lies right of the line at 1, the step is faster than the baseline. A bar is "
      "an interval, a line an estimate.");
  const auto x_of = [&](double value) { return kLeft + (value - low) / (high - low) * kAxisWidth; };
  svg.axis(
      low, high, 0, bottom, [](double v) { return fmt::format("{:.4g}x", v); }, kAxisWidth);
  svg.line(x_of(1), 0, x_of(1), bottom, "mark");
  double y = 4;
  for (const Headline::Mark& mark : headline.marks) {
    const double left = x_of(mark.low.value_or(mark.estimate));
    const double right = x_of(mark.high.value_or(mark.estimate));
    svg.row_label(y + 10, mark.name);
    svg.rect(left - 1, y, std::max(3.0, right - left), kBar, css_class(mark));
    svg.line(x_of(mark.estimate), y - 2, x_of(mark.estimate), y + kBar + 2, "mark");
    svg.value(right + 8, y + 10, value_of(mark));
    y += kRow;
  }
  return svg.finish();
}

// Instead of the chart where the page is narrow.
std::string marks_list(const Headline& headline) {
  std::string out = "<ul class=\"marks\">";
  for (const Headline::Mark& mark : headline.marks) {
    out += fmt::format("<li>{}: {}</li>", escape_html(mark.name), escape_html(value_of(mark)));
  }
  return out + "</ul>\n";
}

std::string card(const Headline& headline, size_t index) {
  std::string out = fmt::format(
      "<section class=\"card {}\" aria-labelledby=\"verdict-{}\">\n<h2 class=\"verdict\" "
      "id=\"verdict-{}\"><span class=\"word\">{}</span> {}</h2>\n",
      css_class(headline.verdict), index, index, escape_html(headline.verdict),
      escape_html(headline.sentence));
  out += marks_chart(headline) + marks_list(headline) + "<dl>";
  if (!headline.reason.empty()) {
    out += fmt::format("<dt>Why</dt><dd>{} <a href=\"#why-{}\">Where the time goes</a></dd>",
                       escape_html(headline.reason), index);
  }
  out += fmt::format("<dt>What would help most</dt><dd>{}", escape_html(headline.advice));
  if (headline.advice_worth_ns) {
    out += fmt::format(" Worth at most {} per step.", format_duration(*headline.advice_worth_ns));
  }
  if (!headline.prices.empty()) {
    out += fmt::format("</dd><dt>More room</dt><dd>{}", escape_html(headline.prices));
  }
  return out + "</dd></dl></section>\n";
}

}  // namespace

std::string html_headlines(const Report& report) {
  std::string out = "<h1>Preserve report</h1>\n";
  for (size_t i = 0; i < report.headlines.size(); ++i) out += card(report.headlines[i], i);
  if (report.headlines.empty()) {
    for (const std::string& sentence : report.sentences) out += html_card("plain", sentence);
  }
  for (const Earlier& run : report.earlier) {
    out += fmt::format(
        "<p class=\"card plain verdict\">{} <a href=\"#earlier\">What changed</a></p>\n",
        escape_html(run.sentence));
  }
  return out;
}

std::string html_warnings(const Report& report) {
  if (report.warnings.empty()) return "";
  std::string out = "<div class=\"alert\" id=\"warnings\"><b>Warnings.</b><ul>\n";
  for (const Warning& warning : report.warnings) {
    out += fmt::format("<li class=\"{0}\"><b>{0}</b> {1}: {2}</li>\n", to_text(warning.severity),
                       html_name(warning.source), escape_html(warning.text));
  }
  return out + "</ul></div>\n";
}

}  // namespace preserve::report
