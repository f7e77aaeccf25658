// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/json_document.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "common/number.h"
#include "common/output_file.h"
#include "common/text.h"
#include "planner/schedule/json_rules.h"

namespace preserve {

using nlohmann::json;

namespace {

// valijson gives "<root>", "[windows]", "[0]"; RFC 6901 wants /windows/0.
std::string json_pointer(const std::vector<std::string>& context) {
  std::string pointer;
  for (size_t i = 1; i < context.size(); ++i) {
    const std::string& part = context[i];
    const bool bracketed = part.size() >= 2 && part.front() == '[' && part.back() == ']';
    pointer += '/' + (bracketed ? part.substr(1, part.size() - 2) : part);
  }
  return pointer.empty() ? "/" : pointer;
}

// The library's message without its own codes: "[json.exception...] parse error at line 1, column
// 1: syntax error while ...".
std::string plain_words(const std::string& what) {
  const size_t code_end = what.find("] ");
  std::string words = code_end == std::string::npos ? what : what.substr(code_end + 2);
  if (!words.starts_with("parse error at ")) return words;
  const size_t place_end = words.find(": ");
  return place_end == std::string::npos ? words : words.substr(place_end + 2);
}

}  // namespace

json parse_json_text(const std::string& text, const std::filesystem::path& path) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    const auto read = static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    throw input_error("{} is not JSON: {} at line {}", path.string(),
                      printable(plain_words(error.what())),
                      1 + std::count(text.begin(), text.begin() + read, '\n'));
  } catch (const json::exception& error) {
    throw input_error("{} is not JSON: {}", path.string(), printable(plain_words(error.what())));
  }
}

void validate_json(const json& document, std::string_view schema_text,
                   const std::filesystem::path& path) {
  using Adapter = valijson::adapters::NlohmannJsonAdapter;
  const json schema_document = json::parse(schema_text);
  if (JsonRules(schema_document).accepts(document)) return;
  const Adapter schema_adapter(schema_document);
  valijson::Schema schema;
  valijson::SchemaParser().populateSchema(schema_adapter, schema);
  valijson::ValidationResults results;
  const Adapter adapter(document);
  if (valijson::Validator().validate(schema, adapter, &results)) return;
  // Errors come from the violated value outwards; the deepest one names the cause.
  valijson::ValidationResults::Error deepest;
  for (const auto& error : results) {
    if (error.context.size() > deepest.context.size()) deepest = error;
  }
  throw error_at(path, json_pointer(deepest.context), "{}", deepest.description);
}

namespace {

// "1.12" -> {1, 12}; nothing else is a version.
std::optional<std::pair<int, int>> version_of(std::string_view text) {
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto major = number_of<int>(text.substr(0, dot)),
             minor = number_of<int>(text.substr(dot + 1));
  if (!major || !minor) return std::nullopt;
  return std::pair(*major, *minor);
}

void check_version(const json& document, const JsonFormat& format,
                   const std::filesystem::path& path) {
  const json version = document.value("version", json());
  if (!version.is_string()) throw error_at(path, "/version", "not a string");
  const auto& text = version.get_ref<const std::string&>();
  const auto number = version_of(text);
  if (!number) {
    throw error_at(path, "/version", "invalid version '{}': expected {}", printable(text),
                   format.version);
  }
  if (*number > *version_of(format.version)) {
    throw input_error("{} has {} version {}, this program reads versions up to {}: use a newer one",
                      path.string(), format.noun, text, format.version);
  }
}

}  // namespace

json load_json(const std::filesystem::path& path, const JsonFormat& format,
               std::string_view otherwise) {
  json document = parse_json_text(read_text_file(path), path);
  if (!document.is_object() || document.value("schema", json()) != format.schema) {
    throw input_error("{}{}", path.string(), otherwise);
  }
  check_version(document, format, path);
  validate_json(document, format.rules, path);
  return document;
}

std::string dump_json(const nlohmann::ordered_json& document) {
  return document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

}  // namespace preserve
