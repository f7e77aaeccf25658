// SPDX-License-Identifier: Apache-2.0
// One Report value -> text in each format. All four say the same; JSON says everything and is the
// machine interface (report.schema.json), CSV is one stable table, HTML and Markdown are for
// people.
#pragma once

#include <string>
#include <string_view>

#include "reports/model/report.h"

namespace preserve::report {

inline constexpr const char* kReportVersion = "1.1";

enum class Format { html, json, md, csv };
// From a word ("html") or a file name's suffix (".html"); usage_error listing the formats.
Format format_from_text(std::string_view text);

std::string render(const Report& report, Format format);
// `indent` as of nlohmann-json: spaces per level, -1: no line breaks.
std::string to_json(const Report& report, int indent = 1);
std::string to_html(const Report& report);
std::string to_markdown(const Report& report);
std::string to_csv(const Report& report);

}  // namespace preserve::report
