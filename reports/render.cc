// SPDX-License-Identifier: Apache-2.0
#include "reports/render.h"

#include "common/error.h"

namespace preserve::report {

Format format_from_text(std::string_view text) {
  const std::string_view word =
      text.substr(text.rfind('.') == std::string_view::npos ? 0 : text.rfind('.') + 1);
  if (word == "html") return Format::html;
  if (word == "json") return Format::json;
  if (word == "md") return Format::md;
  if (word == "csv") return Format::csv;
  throw usage_error(
      "'{}' says no format: end the name in .html, .json, .md or .csv, or pass --format", text);
}

}  // namespace preserve::report
