// SPDX-License-Identifier: Apache-2.0
#include "reports/chart.h"

#include <fmt/format.h>

#include "reports/text.h"

namespace preserve::report {

Svg::Svg(double height, std::string_view title, std::string_view description) {
  out_ = fmt::format(
      "<div class=\"scroll\"><svg role=\"img\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\"><title>{2}</title><desc>{3}</desc>\n",
      kWidth, height, escape_html(title), escape_html(description));
}

void Svg::rect(double x, double y, double width, double height, std::string_view css_class,
               std::string_view hover) {
  out_ += fmt::format("<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" class=\"{}\"",
                      x, y, width, height, css_class);
  out_ += hover.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escape_html(hover));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  out_ += fmt::format("<line x1=\"{:.2f}\" y1=\"{:.1f}\" x2=\"{:.2f}\" y2=\"{:.1f}\" class=\"{}\"/>\n",
                      x1, y1, x2, y2, css_class);
}

void Svg::text(double x, double y, std::string_view text, std::string_view css_class) {
  out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, css_class,
                      escape_html(text));
}

void Svg::path(std::string_view d, std::string_view css_class) {
  out_ += fmt::format("<path d=\"{}\" class=\"{}\"/>\n", d, css_class);
}

std::string Svg::finish() { return std::move(out_) + "</svg></div>\n"; }

}  // namespace preserve::report
