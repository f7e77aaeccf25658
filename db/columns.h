// SPDX-License-Identifier: Apache-2.0
// Columns of a table by name: SELECT, INSERT, UPDATE and reading all come from one array of
// {column, member}, so that no position is counted by hand. Values that the array does not allow
// are input_error naming file and column.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "common/error.h"
#include "db/estimated.h"
#include "db/trace_db.h"

namespace preserve {

inline constexpr double kAnyValue = -std::numeric_limits<double>::infinity();
inline constexpr double kPositive = 1e-12;

template <typename Row>
struct Column {
  const char* name;  // an Estimated has the columns name, name_low and name_high
  std::variant<int64_t Row::*, bool Row::*, double Row::*, Verdict Row::*, std::string Row::*,
               std::optional<double> Row::*, std::optional<Estimated> Row::*>
      member;
  double least = 0;  // of a number
};

// "a = ?, b = ?, b_low = ?" for the suffix " = ?".
template <typename Row, size_t N>
std::string column_list(const std::array<Column<Row>, N>& columns, std::string_view suffix = "") {
  std::string list;
  const auto append = [&](std::string_view name, std::string_view end) {
    list += fmt::format("{}{}{}{}", list.empty() ? "" : ", ", name, end, suffix);
  };
  for (const Column<Row>& column : columns) {
    append(column.name, "");
    if (!std::holds_alternative<std::optional<Estimated> Row::*>(column.member)) continue;
    append(column.name, "_low");
    append(column.name, "_high");
  }
  return list;
}

// In the order of column_list().
template <typename Row, size_t N>
void append_values(const std::array<Column<Row>, N>& columns, const Row& row,
                   std::vector<SqlValue>& values) {
  const auto append = [&](const std::optional<double>& value) {
    if (value) {
      values.emplace_back(*value);
    } else {
      values.emplace_back(nullptr);
    }
  };
  const auto append_member = [&](const auto& value) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, bool>) {
      values.emplace_back(int64_t{value});
    } else if constexpr (std::is_same_v<T, Verdict>) {
      values.emplace_back(std::string(to_string(value)));
    } else if constexpr (std::is_same_v<T, std::string>) {
      values.push_back(value.empty() ? SqlValue(nullptr) : SqlValue(value));
    } else if constexpr (std::is_same_v<T, std::optional<double>>) {
      append(value);
    } else if constexpr (std::is_same_v<T, std::optional<Estimated>>) {
      append(value ? std::optional(value->estimate) : std::nullopt);
      append(value ? value->low : std::nullopt);
      append(value ? value->high : std::nullopt);
    } else {
      values.emplace_back(value);
    }
  };
  for (const Column<Row>& column : columns) {
    std::visit([&](auto member) { append_member(row.*member); }, column.member);
  }
}

// "?, ?, ?" for `values`.
inline std::string question_marks(size_t values) {
  std::string marks;
  for (size_t i = 0; i < values; ++i) marks += i == 0 ? "?" : ", ?";
  return marks;
}

// `others`: columns that the array does not have, with their values.
template <typename Row, size_t N>
void insert_row(TraceDb& db, std::string_view table, const std::array<Column<Row>, N>& columns,
                const Row& row, const std::vector<std::pair<std::string, SqlValue>>& others = {}) {
  std::vector<SqlValue> values;
  append_values(columns, row, values);
  std::string names = column_list(columns);
  for (const auto& [name, value] : others) {
    names += ", " + name;
    values.push_back(value);
  }
  db.execute(
      fmt::format("INSERT INTO {} ({}) VALUES ({})", table, names, question_marks(values.size())),
      values);
}

// A row of a SELECT of column_list(); `first` is the position of its first column.
template <typename Row, size_t N>
void read_columns(const Query& query, int first, const std::array<Column<Row>, N>& columns,
                  Row& row) {
  int at = first;
  const auto refuse = [&](const char* name) {
    throw input_error("{}: is damaged: {} is '{}'", query.file(), name, query.text(at));
  };
  const auto number = [&](const Column<Row>& column, double least) {
    const double value = query.real(at);
    if (!query.is_number(at) || !std::isfinite(value) || value < least) refuse(column.name);
    return value;
  };
  const auto optional_number = [&](const Column<Row>& column, double least) {
    std::optional<double> value;
    if (!query.is_null(at)) value = number(column, least);
    ++at;
    return value;
  };
  const auto read_member = [&](const Column<Row>& column, auto& value) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::optional<double>>) {
      value = optional_number(column, column.least);
    } else if constexpr (std::is_same_v<T, std::optional<Estimated>>) {
      const int estimate_at = at;
      const auto estimate = optional_number(column, kPositive);
      const auto low = optional_number(column, kPositive);
      const auto high = optional_number(column, kPositive);
      const bool whole = low.has_value() == high.has_value() && (!low || *low <= *high);
      if (!whole || (low && !estimate)) {
        at = estimate_at;
        refuse(column.name);
      }
      value.reset();
      if (estimate) value = Estimated{*estimate, low, high};
    } else {
      if constexpr (std::is_same_v<T, std::string>) {
        value = std::string(query.text(at));
      } else if constexpr (std::is_same_v<T, Verdict>) {
        value = query.verdict(at);
      } else if constexpr (std::is_same_v<T, double>) {
        value = number(column, column.least);
      } else {
        number(column, column.least);
        const int64_t integer = query.integer(at);
        if (std::is_same_v<T, bool> && integer > 1) refuse(column.name);
        value = static_cast<T>(integer);
      }
      ++at;
    }
  };
  for (const Column<Row>& column : columns) {
    std::visit([&](auto member) { read_member(column, row.*member); }, column.member);
  }
}

}  // namespace preserve
