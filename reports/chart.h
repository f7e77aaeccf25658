// SPDX-License-Identifier: Apache-2.0
// The few shapes that the charts are made of, as SVG text. Colours are CSS classes (page.css), so
// that one drawing serves light, dark and print. Every text is escaped here.
#pragma once

#include <string>
#include <string_view>

namespace preserve::report {

// Every chart has one width: labels on the left, then the plot; its axis needs kAxis below.
inline constexpr double kWidth = 1080, kLeft = 190, kPlot = kWidth - kLeft - 20, kAxis = 24;

class Svg {
 public:
  // `title` and `description` are what a screen reader says instead of the picture.
  Svg(double height, std::string_view title, std::string_view description);

  void rect(double x, double y, double width, double height, std::string_view css_class,
            std::string_view hover = {});
  void line(double x1, double y1, double x2, double y2, std::string_view css_class);
  void text(double x, double y, std::string_view text, std::string_view css_class = "label");
  void path(std::string_view d, std::string_view css_class);
  std::string finish();

 private:
  std::string out_;
};

}  // namespace preserve::report
