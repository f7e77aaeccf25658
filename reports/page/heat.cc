// SPDX-License-Identifier: Apache-2.0
#include "reports/page/heat.h"

#include <fmt/format.h>

#include <array>

#include "reports/text.h"

namespace preserve::report {
namespace {

// Steps of the scale, outwards from "no noticeable change".
constexpr std::array kHigher{1.005, 1.02, 1.05, 1.1, 1.2};
constexpr std::array kLower{0.995, 0.98, 0.95};

}  // namespace

std::string heat_shade(double ratio) {
  size_t step = 0;
  if (ratio >= 1) {
    while (step < kHigher.size() && ratio > kHigher[step]) ++step;
    return step == 0 ? "e" : fmt::format("h{}", step);
  }
  while (step < kLower.size() && ratio < kLower[step]) ++step;
  return step == 0 ? "e" : fmt::format("l{}", step);
}

std::string heat_legend(const std::string& none) {
  std::string out = "<ul class=\"legend heat\">";
  const auto entry = [&](const std::string& shade, const std::string& mark,
                         const std::string& text) {
    out += fmt::format("<li><span class=\"h {}\">{}</span> {}</li>", shade, escape_html(mark),
                       escape_html(text));
  };
  for (size_t i = kLower.size(); i > 0; --i) {
    entry(fmt::format("l{}", i), fmt::format("{:.2f}", kLower[i - 1] - 0.005),
          fmt::format("below {:g}", kLower[i - 1]));
  }
  entry("e", "=", "nothing is done, or no change worth naming");
  for (size_t i = 0; i < kHigher.size(); ++i) {
    entry(fmt::format("h{}", i + 1), fmt::format("{:.2f}", kHigher[i] + 0.01),
          fmt::format("above {:g}", kHigher[i]));
  }
  entry("na", "N/A", "cannot be run: memory, or the ranks do not divide the model");
  entry("bad", "failed", "see the table of all cells");
  entry("none", "-", none);
  return out + "</ul>\n";
}

}  // namespace preserve::report
