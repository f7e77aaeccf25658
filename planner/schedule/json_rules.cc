// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/json_rules.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace preserve {

using nlohmann::json;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename... Types>
constexpr unsigned bits_of(Types... types) {
  return ((1u << static_cast<unsigned>(types)) | ...);
}

// Of draft-07's names. An integer that is written as 1.0 is left to the validator.
unsigned types_named(const json& name) {
  using Value = json::value_t;
  if (name == "object") return bits_of(Value::object);
  if (name == "array") return bits_of(Value::array);
  if (name == "string") return bits_of(Value::string);
  if (name == "boolean") return bits_of(Value::boolean);
  if (name == "integer") return bits_of(Value::number_integer, Value::number_unsigned);
  if (name == "number") {
    return bits_of(Value::number_integer, Value::number_unsigned, Value::number_float);
  }
  return 0;
}

// Characters of UTF-8 before the first NUL, where the validator stops counting.
size_t length_of(const std::string& text) {
  const auto end = std::find(text.begin(), text.end(), '\0');
  return static_cast<size_t>(std::count_if(
      text.begin(), end, [](char byte) { return (static_cast<unsigned char>(byte) >> 6) != 2; }));
}

}  // namespace

JsonRules::JsonRules(const json& schema) : root_(compile(schema, schema)) {}

bool JsonRules::accepts(const json& document) const {
  return complete_ && accepts(*root_, document);
}

const JsonRules::Rule* JsonRules::compile(const json& schema, const json& root) {
  if (const auto reference = schema.find("$ref"); reference != schema.end()) {
    const std::string pointer = reference->get<std::string>().substr(1);  // after the #
    return compile(root.at(json::json_pointer(pointer)), root);
  }
  const auto [place, fresh] = rules_.try_emplace(
      &schema,
      Rule{~0u, -kInfinity, kInfinity, -kInfinity, 0, 0, SIZE_MAX, {}, {}, nullptr, {}, {}, {}});
  Rule& rule = place->second;
  if (!fresh) return &rule;
  for (const auto& [keyword, value] : schema.items()) add_keyword(keyword, value, root, rule);
  return &rule;
}

void JsonRules::add_keyword(const std::string& keyword, const json& value, const json& root,
                            Rule& rule) {
  const auto member = [&rule](const std::string& name) -> Member& {
    const auto known = std::ranges::find(rule.members, name, &Member::name);
    return known != rule.members.end() ? *known
                                       : rule.members.emplace_back(Member{name, nullptr, false});
  };
  if (keyword == "type") {
    rule.types &= types_named(value);
  } else if (keyword == "minimum") {
    rule.minimum = value;
  } else if (keyword == "maximum") {
    rule.maximum = value;
  } else if (keyword == "exclusiveMinimum") {
    rule.exclusive_minimum = value;
  } else if (keyword == "minLength") {
    rule.min_length = value;
  } else if (keyword == "minItems") {
    rule.min_items = value;
  } else if (keyword == "maxItems") {
    rule.max_items = value;
  } else if (keyword == "pattern") {
    rule.pattern = value.get<std::string>();
  } else if (keyword == "const" && value.is_string()) {
    rule.words = {value};
    rule.types &= types_named("string");
  } else if (keyword == "enum" && std::all_of(value.begin(), value.end(),
                                              [](const json& each) { return each.is_string(); })) {
    rule.words = value.get<std::vector<std::string>>();
    rule.types &= types_named("string");
  } else if (keyword == "items" && value.is_object()) {
    rule.items = compile(value, root);
  } else if (keyword == "allOf") {
    for (const json& each : value) rule.all_of.push_back(compile(each, root));
  } else if (keyword == "properties") {
    for (const auto& [name, schema] : value.items()) member(name).rule = compile(schema, root);
  } else if (keyword == "required") {
    for (const json& name : value) member(name).required = true;
  } else if (keyword == "dependencies" &&
             std::all_of(value.begin(), value.end(),
                         [](const json& needs) { return needs.is_array(); })) {
    for (const auto& [name, needs] : value.items()) rule.dependencies.push_back({name, needs});
  } else if (keyword != "$schema" && keyword != "title" && keyword != "description" &&
             keyword != "definitions") {
    complete_ = false;
  }
}

bool JsonRules::accepts(const Rule& rule, const json& value) const {
  if ((rule.types & bits_of(value.type())) == 0) return false;
  for (const Rule* each : rule.all_of) {
    if (!accepts(*each, value)) return false;
  }
  if (value.is_number()) {
    const auto number = value.get<double>();
    return rule.minimum <= number && number <= rule.maximum && rule.exclusive_minimum < number;
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    return (rule.words.empty() || std::ranges::find(rule.words, text) != rule.words.end()) &&
           (rule.min_length == 0 || length_of(text) >= rule.min_length) &&
           (!rule.pattern || std::regex_search(text, *rule.pattern));
  }
  if (value.is_array()) {
    return rule.min_items <= value.size() && value.size() <= rule.max_items &&
           (rule.items == nullptr || std::all_of(value.begin(), value.end(), [&](const json& each) {
              return accepts(*rule.items, each);
            }));
  }
  if (!value.is_object()) return true;
  const auto& object = value.get_ref<const json::object_t&>();
  for (const Member& member : rule.members) {
    const auto found = object.find(member.name);
    if (found == object.end()) {
      if (member.required) return false;
    } else if (member.rule != nullptr && !accepts(*member.rule, found->second)) {
      return false;
    }
  }
  return std::ranges::all_of(rule.dependencies, [&](const Dependency& dependency) {
    return !object.contains(dependency.name) ||
           std::ranges::all_of(dependency.needs,
                               [&](const std::string& name) { return object.contains(name); });
  });
}

}  // namespace preserve
