// SPDX-License-Identifier: Apache-2.0
// Front door of the planner's JSON files: parses and validates a text against a shipped draft-07
// schema, so that the readers of schedule.json and device.json meet only well-typed values. Errors
// are input_error with the file and the JSON pointer of the first violation.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "common/error.h"

namespace preserve {

// Parses a text that was read from `path`. NaN, infinities, numbers outside double and trailing
// text are refused.
nlohmann::json parse_json_text(const std::string& text, const std::filesystem::path& path);

// Checks `document` against `schema` (the text of a draft-07 schema).
void validate_json(const nlohmann::json& document, std::string_view schema,
                   const std::filesystem::path& path);

// A format of files: what their "schema" is ("preserve/device"), how messages call them ("device"),
// the newest version known ("1.1") and the text of the draft-07 schema.
struct JsonFormat {
  std::string_view schema, noun, version, rules;
};

// Reads a file of that format. `otherwise`: said behind the name of a file of another one. A file
// of a newer version, major or minor, is refused, naming both: what it adds may change what the
// rest means.
nlohmann::json load_json(const std::filesystem::path& path, const JsonFormat& format,
                         std::string_view otherwise);

// What is wrong at an RFC 6901 pointer of a document.
template <typename... Args>
[[nodiscard]] Error error_at(const std::filesystem::path& path, std::string_view pointer,
                             fmt::format_string<Args...> format, Args&&... args) {
  return input_error("{}: at {}: {}", path.string(), pointer,
                     fmt::format(format, std::forward<Args>(args)...));
}

// The text of a document as files hold it: two-space indent, final newline, invalid UTF-8 replaced.
std::string dump_json(const nlohmann::ordered_json& document);

// Largest integer that every JSON reader keeps exactly; the schemas use it as an upper bound.
inline constexpr int64_t kMaxJsonInteger = (int64_t{1} << 53) - 1;

}  // namespace preserve
