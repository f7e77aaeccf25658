// SPDX-License-Identifier: Apache-2.0
#include "reports/page/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "reports/text.h"

namespace preserve::report {
namespace {

// 1, 2 or 5 times a power of ten, so that about six of them fill the range.
double tick_step(double range) {
  if (!(range > 0)) return 1;
  const double rough = range / 6;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

// "32 MiB": round values need no decimals.
std::string size_tick(double size_bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; size_bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) size_bytes /= 1024;
  return fmt::format("{:g} {}", size_bytes, kUnits[unit]);
}

}  // namespace

Svg::Svg(double height, std::string_view title, std::string_view description) {
  out_ = fmt::format(
      "<div class=\"scroll\"><svg role=\"img\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\"><title>{2}</title><desc>{3}</desc>\n",
      kWidth, height, escape_html(title), escape_html(description));
}

void Svg::rect(double x, double y, double width, double height, std::string_view css_class,
               std::string_view hover) {
  out_ +=
      fmt::format("<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" class=\"{}\"",
                  x, y, width, height, css_class);
  out_ += hover.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escape_html(hover));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  out_ +=
      fmt::format("<line x1=\"{:.2f}\" y1=\"{:.1f}\" x2=\"{:.2f}\" y2=\"{:.1f}\" class=\"{}\"/>\n",
                  x1, y1, x2, y2, css_class);
}

void Svg::text(double x, double y, std::string_view text, std::string_view css_class) {
  out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, css_class,
                      escape_html(text));
}

void Svg::axis(double from, double to, double top, double bottom,
               const std::function<std::string(double)>& label, double width) {
  ticks(from, to, tick_step(to - from), top, bottom, label, width);
}

void Svg::size_axis(double from, double to, double top, double bottom) {
  // Sizes are counted in powers of two, so no other step gives round labels.
  const double step = std::exp2(std::ceil(std::log2(std::max(1.0, (to - from) / 6))));
  ticks(from, to, step, top, bottom, size_tick, kPlot);
}

void Svg::ticks(double from, double to, double step, double top, double bottom,
                const std::function<std::string(double)>& label, double width) {
  const auto last = static_cast<int>(std::floor(to / step + 1e-9));
  for (auto tick = static_cast<int>(std::ceil(from / step - 1e-9)); tick <= last; ++tick) {
    const double x = kLeft + (tick * step - from) / (to - from) * width;
    line(x, top, x, bottom, "grid");
    text(x, bottom + 14, label(tick * step), "tick");
  }
}

void Svg::row_label(double y, std::string_view label) {
  text(kLeft - 8, y, shorten(label, kLabelCharacters), "row");
}

void Svg::value(double x, double y, std::string_view shown) {
  constexpr double kCharacter = 7;  // of the 11 px label font
  const bool fits = x + kCharacter * static_cast<double>(shown.size()) < kWidth;
  text(fits ? x : kWidth - 2, y, shown, fits ? "label" : "row");
}

void Svg::dot(double x, double y) {
  out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.5\" class=\"dot\"/>\n", x, y);
}

void Svg::path(std::string_view d, std::string_view css_class) {
  out_ += fmt::format("<path d=\"{}\" class=\"{}\"/>\n", d, css_class);
}

std::string Svg::finish() {
  return std::move(out_) + "</svg></div>\n";
}

std::function<std::string(double)> time_ticks(double largest_ns) {
  const char* unit = "ns";
  double unit_ns = 1;
  if (largest_ns >= 1e9) {
    unit = "s", unit_ns = 1e9;
  } else if (largest_ns >= 1e6) {
    unit = "ms", unit_ns = 1e6;
  } else if (largest_ns >= 1e3) {
    unit = "us", unit_ns = 1e3;
  }
  return [unit, unit_ns](double value_ns) {
    return value_ns == 0 ? std::string("0") : fmt::format("{:g} {}", value_ns / unit_ns, unit);
  };
}

}  // namespace preserve::report
