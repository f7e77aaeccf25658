// SPDX-License-Identifier: Apache-2.0
// The keys of a config.json, each under the names that it has had, with range checks that name the
// file and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"

namespace preserve {

// Far above any model, far below where products of four of them overflow 64 bits.
inline constexpr int64_t kMostWidth = 1 << 20;
inline constexpr int64_t kMostLayers = 1 << 14;

// Parses a file as Python's json module writes it: Infinity, -Infinity and NaN become null.
nlohmann::json parse_python_json(const std::filesystem::path& path);

class ConfigReader {
 public:
  using Names = std::initializer_list<const char*>;

  // `place`: of `document` in the file, "" or "/text_config".
  ConfigReader(nlohmann::json document, std::string file, std::string place)
      : document_(std::move(document)), file_(std::move(file)), place_(std::move(place)) {}

  // The first of `names` that is present and not null; nullptr when none is.
  const nlohmann::json* find(Names names) const;
  bool has(const char* name) const { return find({name}) != nullptr; }

  // A list with an entry per layer is its number when all are equal, and refused when they are not;
  // "auto" is an absent one.
  std::optional<int64_t> number(Names names, int64_t least = 1, int64_t most = kMostWidth) const;
  int64_t number_or(Names names, int64_t fallback, int64_t least = 1,
                    int64_t most = kMostWidth) const {
    return number(names, least, most).value_or(fallback);
  }
  // One of `names`; refused when there is none.
  int64_t required(Names names, int64_t least = 1, int64_t most = kMostWidth) const;
  // One of `names`, else the default of the library that writes the file, which `warnings` then
  // states; 0: there is none, and one of `names` is required.
  int64_t number_or_default(Names names, int64_t otherwise, std::string_view model_type,
                            std::vector<std::string>& warnings, int64_t most = kMostWidth) const;
  std::optional<bool> flag(Names names) const;
  bool flag_or(Names names, bool fallback) const { return flag(names).value_or(fallback); }
  std::optional<std::string> word(Names names) const;
  // One entry per layer; nothing when the key is absent.
  std::optional<std::vector<int64_t>> numbers(const char* name, size_t count, int64_t least,
                                              int64_t most = kMostWidth) const;
  std::optional<std::vector<std::string>> words(Names names, size_t count) const;
  // A list with an entry per layer; refused when it is none of `count` `nouns`.
  void check_list(const char* name, const nlohmann::json& value, size_t count,
                  const char* nouns) const;
  // The keys of an object that is found at `name`; refused when it is none.
  ConfigReader object(const nlohmann::json& value, const std::string& name) const;

  template <typename... Args>
  [[nodiscard]] Error error(std::string_view name, fmt::format_string<Args...> format,
                            Args&&... args) const {
    return input_error("{}: at {}/{}: {}", file_, place_, name,
                       fmt::format(format, std::forward<Args>(args)...));
  }

  const std::string& file() const { return file_; }
  const std::string& place() const { return place_; }

 private:
  std::pair<const char*, const nlohmann::json*> first_of(Names names) const;
  int64_t whole_number(const char* name, const nlohmann::json& value, int64_t least,
                       int64_t most) const;

  nlohmann::json document_;
  std::string file_, place_;
};

}  // namespace preserve
