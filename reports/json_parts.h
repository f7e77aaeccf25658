// SPDX-License-Identifier: Apache-2.0
// Values as all JSON reports write them. Internal to the reports library.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "common/error.h"
#include "db/estimated.h"
#include "reports/model/inputs.h"
#include "reports/text.h"

namespace preserve::report {

using nlohmann::ordered_json;

template <typename T>
ordered_json optional(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

inline ordered_json text_or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

template <typename Rows, typename Write>
ordered_json array_of(const Rows& rows, Write write) {
  ordered_json array = ordered_json::array();
  for (const auto& row : rows) array.push_back(write(row));
  return array;
}

// Ratios carry no more digits than they mean; that also keeps them equal between compilers.
inline ordered_json ratio(const std::optional<double>& value) {
  if (!value) return nullptr;
  if (!std::isfinite(*value)) throw internal_error("a ratio of the report is not a number");
  return std::round(*value * 1e6) / 1e6;
}

inline ordered_json estimated_ratio(const std::optional<Estimated>& value) {
  if (!value) return nullptr;
  return {{"low", ratio(value->low)},
          {"estimate", ratio(value->estimate)},
          {"high", ratio(value->high)}};
}
inline ordered_json interval_of_ratio(const std::optional<Interval>& value) {
  if (!value) return nullptr;
  return estimated_ratio(Estimated{value->estimate, value->low, value->high});
}

// What the report of a file of cells begins with.
inline ordered_json report_of(const char* schema, const char* version, const InputFile& input,
                              bool complete) {
  return {
      {"schema", schema},
      {"version", version},
      {"tool_version", PRESERVE_VERSION},
      {"input",
       {{"path", clean(input.path.string())}, {"bytes", input.bytes}, {"sha256", input.sha256}}},
      {"complete", complete}};
}

}  // namespace preserve::report
