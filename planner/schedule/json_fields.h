// SPDX-License-Identifier: Apache-2.0
// The fields of a struct, told once for reading and for writing its JSON object. Beside the struct
// stands, found by argument-dependent look-up,
//
//   template <typename Fields>
//   static void describe(Fields& fields, FieldsOf<Fields, CollectiveFit>& fit) {
//     fields("function", fit.function);
//     fields.or_default("max_bytes", fit.max_bytes);
//   }
//
// Values are numbers, flags, texts, described structs, and vectors of these. Documents were
// validated against their schema, so a reader meets only well-typed values.
#pragma once

#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "common/error.h"

namespace preserve {

// A struct to fill, or one to write.
template <typename Fields, typename Struct>
using FieldsOf = std::conditional_t<Fields::kWrites, const Struct, Struct>;

template <typename T>
concept HasOwnJson = std::is_arithmetic_v<T> || std::is_same_v<T, std::string>;

class FieldReader {
 public:
  static constexpr bool kWrites = false;
  using Json = nlohmann::json;
  explicit FieldReader(const Json& object) : object_(object) {}

  // Always there.
  template <typename T>
  void operator()(const char* name, T& value) {
    get(object_.at(name), value);
  }
  // Always written; files of people or of older versions may lack it.
  template <typename T>
  void or_default(const char* name, T& value) {
    if (object_.contains(name)) get(object_.at(name), value);
  }
  // Left out where it is empty or has no value.
  template <typename T>
  void if_any(const char* name, T& value) {
    or_default(name, value);
  }
  // By its to_string(); the schema lists the same words.
  template <typename Enum>
  void word(const char* name, Enum& value, std::initializer_list<Enum> all) {
    for (const Enum one : all) {
      if (object_.at(name) == to_string(one)) return void(value = one);
    }
    throw internal_error("the schema accepts {}", object_.at(name).dump());
  }
  // `word` where the flag is set, else left out.
  void word_if(const char* name, const char* word, bool& flag) {
    flag = object_.value(name, Json()) == word;
  }
  // An object within.
  template <typename Describe>
  void group(const char* name, Describe&& describe_group) {
    FieldReader inner(object_.at(name));
    describe_group(inner);
  }
  // Left out unless `any` when it is written.
  template <typename Describe>
  void group_if(bool /*any*/, const char* name, Describe&& describe_group) {
    if (object_.contains(name)) group(name, describe_group);
  }
  // Several fields of this object that are there together, `first` among them, or not at all.
  template <typename T, typename Describe>
  void together(const char* first, std::optional<T>& value, Describe&& describe_value) {
    if (object_.contains(first)) describe_value(value.emplace());
  }

 private:
  template <HasOwnJson T>
  static void get(const Json& json, T& value) {
    json.get_to(value);
  }
  template <typename T>
  static void get(const Json& json, std::optional<T>& value) {
    get(json, value.emplace());
  }
  template <typename T>
  static void get(const Json& json, std::vector<T>& values) {
    values.reserve(json.size());
    for (const Json& item : json) get(item, values.emplace_back());
  }
  template <typename T>
  static void get(const Json& json, T& value) {
    FieldReader inner(json);
    describe(inner, value);
  }

  const Json& object_;
};

// Keys in the order of the description.
class FieldWriter {
 public:
  static constexpr bool kWrites = true;
  using Json = nlohmann::ordered_json;
  explicit FieldWriter(Json& object) : object_(object) {}

  template <typename T>
  void operator()(const char* name, const T& value) {
    object_[name] = json_of(name, value);
  }
  template <typename T>
  void or_default(const char* name, const T& value) {
    (*this)(name, value);
  }
  template <typename T>
  void if_any(const char* name, const T& value) {
    if (!value.empty()) (*this)(name, value);
  }
  template <typename T>
  void if_any(const char* name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
  }
  template <typename Enum>
  void word(const char* name, Enum value, std::initializer_list<Enum> /*all*/) {
    object_[name] = to_string(value);
  }
  void word_if(const char* name, const char* word, bool flag) {
    if (flag) object_[name] = word;
  }
  template <typename Describe>
  void group(const char* name, Describe&& describe_group) {
    FieldWriter inner(object_[name] = Json::object());
    describe_group(inner);
  }
  template <typename Describe>
  void group_if(bool any, const char* name, Describe&& describe_group) {
    if (any) group(name, describe_group);
  }
  template <typename T, typename Describe>
  void together(const char* /*first*/, const std::optional<T>& value, Describe&& describe_value) {
    if (value) describe_value(*value);
  }

 private:
  template <HasOwnJson T>
  static Json json_of(const char* name, const T& value) {
    if constexpr (std::is_floating_point_v<T>) {
      if (!std::isfinite(value)) throw internal_error("{} is not a number", name);
    }
    return value;
  }
  template <typename T>
  static Json json_of(const char* name, const std::vector<T>& values) {
    Json array = Json::array();
    for (const T& value : values) array.push_back(json_of(name, value));
    return array;
  }
  template <typename T>
  static Json json_of(const char* /*name*/, const T& value) {
    Json object = Json::object();
    FieldWriter inner(object);
    describe(inner, value);
    return object;
  }

  Json& object_;
};

}  // namespace preserve
