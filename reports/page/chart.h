// SPDX-License-Identifier: Apache-2.0
// The few shapes that the charts are made of, as SVG text. Colours are CSS classes (page.css), so
// that one drawing serves light, dark and print. Every text is escaped here.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace preserve::report {

// Every chart has one width: labels on the left, then the plot; its axis needs kAxis below.
inline constexpr double kWidth = 1100, kLeft = 216, kPlot = kWidth - kLeft - 40, kAxis = 24;
inline constexpr size_t kLabelCharacters = 30;  // that fit left of the plot

class Svg {
 public:
  // `title` and `description` are what a screen reader says instead of the picture.
  Svg(double height, std::string_view title, std::string_view description);

  void rect(double x, double y, double width, double height, std::string_view css_class,
            std::string_view hover = {});
  void line(double x1, double y1, double x2, double y2, std::string_view css_class);
  void text(double x, double y, std::string_view text, std::string_view css_class = "label");
  // Grid lines at round values between `from` and `to`, `label(value)` below each.
  void axis(double from, double to, double top, double bottom,
            const std::function<std::string(double)>& label, double width = kPlot);
  // The same with sizes in bytes, at multiples of a power of two.
  void size_axis(double from, double to, double top, double bottom);
  void value(double x, double y, std::string_view text);  // right of x, left of it near the edge
  void dot(double x, double y);
  void row_label(double y, std::string_view text);  // left of the plot, cut to fit
  void path(std::string_view d, std::string_view css_class);
  std::string finish();

 private:
  void ticks(double from, double to, double step, double top, double bottom,
             const std::function<std::string(double)>& label, double width);

  std::string out_;
};

// Ticks of an axis whose largest value is `largest_ns`, all in one unit: "0", "200 us", "400 us".
std::function<std::string(double)> time_ticks(double largest_ns);

}  // namespace preserve::report
