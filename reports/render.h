// SPDX-License-Identifier: Apache-2.0
// One Report value -> text in each format. All four say the same; JSON says everything and is the
// machine interface (report.schema.json), CSV is one stable table, HTML and Markdown are for
// people.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "common/error.h"
#include "reports/model/report.h"

namespace preserve::report {

inline constexpr const char* kReportVersion = "1.2";

enum class Format { html, json, md, csv };
inline constexpr std::initializer_list<Format> kFormats = {Format::html, Format::json, Format::md,
                                                           Format::csv};
const char* to_string(Format format);  // also the suffix of its files
// By the suffix of a file name; usage_error listing the formats.
Format format_of(std::string_view name);

// `indent` as of nlohmann-json: spaces per level, -1: no line breaks.
std::string to_json(const Report& report, int indent = 1);
std::string to_html(const Report& report);
std::string to_markdown(const Report& report);
std::string to_csv(const Report& report);

// Of any kind of report that has the four functions above.
template <typename AnyReport>
std::string render(const AnyReport& report, Format format) {
  switch (format) {
    case Format::html:
      return to_html(report);
    case Format::json:
      return to_json(report);
    case Format::md:
      return to_markdown(report);
    case Format::csv:
      return to_csv(report);
  }
  throw internal_error("unknown report format");
}

}  // namespace preserve::report
