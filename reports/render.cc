// SPDX-License-Identifier: Apache-2.0
#include "reports/render.h"

#include <fmt/format.h>

#include <array>

namespace preserve::report {

const char* to_string(Format format) {
  return std::array{"html", "json", "md", "csv"}.at(static_cast<size_t>(format));
}

Format format_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  const std::string_view suffix = dot == std::string_view::npos ? "" : name.substr(dot + 1);
  std::string known;
  for (const Format format : kFormats) {
    if (suffix == to_string(format)) return format;
    known += fmt::format(" .{}", to_string(format));
  }
  throw usage_error("'{}' says no format: end the name in one of{}, or pass --format", name, known);
}

}  // namespace preserve::report
