// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/config_reader.h"

#include <algorithm>
#include <array>

#include "common/output_file.h"
#include "common/text.h"
#include "planner/schedule/json_document.h"

namespace preserve {

using nlohmann::json;

namespace {

// Bare words that Python writes where JSON has no number.
constexpr std::array<std::string_view, 3> kNoNumbers{"-Infinity", "Infinity", "NaN"};

// Replaces them outside strings by null and blanks, so that error messages keep their line.
std::string without_python_words(std::string text) {
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\') {
        ++i;  // the character after it ends no string
      } else if (text[i] == '"') {
        in_string = false;
      }
      continue;
    }
    if (text[i] == '"') in_string = true;
    for (const std::string_view word : kNoNumbers) {
      if (text.compare(i, word.size(), word) != 0) continue;
      std::string blank = "null";
      blank.resize(std::max(blank.size(), word.size()), ' ');
      text.replace(i, word.size(), blank);
      break;
    }
  }
  return text;
}

std::string shown(const json& value) {
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

json parse_python_json(const std::filesystem::path& path) {
  return parse_json_text(without_python_words(read_text_file(path)), path);
}

std::pair<const char*, const json*> ConfigReader::first_of(Names names) const {
  for (const char* name : names) {
    const auto value = document_.find(name);
    if (value != document_.end() && !value->is_null()) return {name, &*value};
  }
  return {nullptr, nullptr};
}

const json* ConfigReader::find(Names names) const {
  return first_of(names).second;
}

int64_t ConfigReader::whole_number(const char* name, const json& value, int64_t least,
                                   int64_t most) const {
  if (value.is_number_integer() && value >= least && value <= most) return value.get<int64_t>();
  throw error(name, "{} is not a whole number from {} to {}", shown(value), least, most);
}

std::optional<int64_t> ConfigReader::number(Names names, int64_t least, int64_t most) const {
  for (const char* name : names) {
    const json* value = find({name});
    if (value == nullptr || *value == "auto") continue;
    if (value->is_array() && !value->empty()) {
      const json& first = value->front();
      if (std::any_of(value->begin(), value->end(), [&](const json& v) { return v != first; })) {
        throw error(name, "not the same for all layers, which is not modelled");
      }
      value = &first;
    }
    return whole_number(name, *value, least, most);
  }
  return std::nullopt;
}

int64_t ConfigReader::required(Names names, int64_t least, int64_t most) const {
  if (const auto value = number(names, least, most)) return *value;
  throw error(*names.begin(), "missing");
}

int64_t ConfigReader::number_or_default(Names names, int64_t otherwise, std::string_view model_type,
                                        std::vector<std::string>& warnings, int64_t most) const {
  if (otherwise == 0) return required(names, 1, most);
  if (const auto value = number(names, 1, most)) return *value;
  warnings.push_back(fmt::format("{}: {} is absent: {}, the default of {}", file_, *names.begin(),
                                 otherwise, model_type));
  return otherwise;
}

std::optional<bool> ConfigReader::flag(Names names) const {
  const auto [name, value] = first_of(names);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw error(name, "not true or false");
  return value->get<bool>();
}

std::optional<std::string> ConfigReader::word(Names names) const {
  const auto [name, value] = first_of(names);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw error(name, "{} is not a word", shown(*value));
  return value->get<std::string>();
}

void ConfigReader::check_list(const char* name, const json& value, size_t count,
                              const char* nouns) const {
  if (value.is_array() && value.size() == count) return;
  throw error(name, "not a list of {} {}, one for each layer", count, nouns);
}

std::optional<std::vector<int64_t>> ConfigReader::numbers(const char* name, size_t count,
                                                          int64_t least, int64_t most) const {
  const json* value = find({name});
  if (value == nullptr) return std::nullopt;
  check_list(name, *value, count, "numbers");
  std::vector<int64_t> result;
  for (const json& item : *value) result.push_back(whole_number(name, item, least, most));
  return result;
}

std::optional<std::vector<std::string>> ConfigReader::words(Names names, size_t count) const {
  const auto [name, value] = first_of(names);
  if (value == nullptr) return std::nullopt;
  check_list(name, *value, count, "words");
  std::vector<std::string> result;
  for (const json& item : *value) {
    if (!item.is_string()) throw error(name, "{} is not a word", shown(item));
    result.push_back(item.get<std::string>());
  }
  return result;
}

ConfigReader ConfigReader::object(const json& value, const std::string& name) const {
  if (!value.is_object()) throw error(name, "not an object");
  return {value, file_, place_ + "/" + name};
}

}  // namespace preserve
