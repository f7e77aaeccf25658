// SPDX-License-Identifier: Apache-2.0
// Front door of the planner's JSON files: parses and validates a text against a shipped draft-07
// schema, so that the readers of schedule.json and device.json meet only well-typed values. Errors
// are input_error with the file and the JSON pointer of the first violation.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace preserve {

// Parses the file. NaN, infinities, numbers outside double and trailing text are refused.
nlohmann::json parse_json_file(const std::filesystem::path& path);

// The same of a text that was read from `path`.
nlohmann::json parse_json_text(const std::string& text, const std::filesystem::path& path);

// Checks `document` against `schema` (the text of a draft-07 schema).
void validate_json(const nlohmann::json& document, std::string_view schema,
                   const std::filesystem::path& path);

// Refuses a file of a newer version than `known` ("1.1"), major or minor, and names both: what it
// adds may change what the rest means. `noun` is "schedule" or "device".
void check_version(const nlohmann::json& document, std::string_view noun, std::string_view known,
                   const std::filesystem::path& path);

// The text of a document as files hold it: two-space indent, final newline, invalid UTF-8 replaced.
std::string dump_json(const nlohmann::ordered_json& document);

// Largest integer that every JSON reader keeps exactly; the schemas use it as an upper bound.
inline constexpr int64_t kMaxJsonInteger = (int64_t{1} << 53) - 1;

}  // namespace preserve
