// SPDX-License-Identifier: Apache-2.0
// Rows of one table on their way into SQLite, gathered and written many per statement: starting and
// ending a statement costs more than a row does (measured: 2.3 times the rows per second).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/ids.h"

struct sqlite3;
struct sqlite3_stmt;

namespace preserve {

class BulkInsert {
 public:
  BulkInsert() = default;
  ~BulkInsert();
  BulkInsert(const BulkInsert&) = delete;
  BulkInsert& operator=(const BulkInsert&) = delete;

  // `into` is "INSERT INTO op" or "INSERT OR REPLACE INTO counter". False when SQLite refuses.
  bool prepare(sqlite3* handle, const std::string& into, int columns);
  void finalize();

  // One row: its values from left to right, then end_row(). Texts are copied.
  BulkInsert& integer(int64_t value);
  BulkInsert& integer(const std::optional<int64_t>& value) {
    return value ? integer(*value) : null();
  }
  template <typename Tag>
  BulkInsert& id(Id<Tag> value) {  // 0: no row
    return value ? integer(value.value) : null();
  }
  BulkInsert& real(double value);
  BulkInsert& text(std::string_view value);
  BulkInsert& text_or_null(std::string_view value) { return value.empty() ? null() : text(value); }
  BulkInsert& null();
  void end_row() { ++rows_; }
  bool is_empty() const { return rows_ == 0; }
  bool is_full() const;  // then flush() must come before the next row
  // Writes what has gathered. False when a row was refused; which one is not known any more.
  bool flush();

 private:
  enum class Type : uint8_t { null, integer, real, text };
  struct Cell {
    Type type;
    uint32_t bytes;  // text
    union {
      int64_t integer;
      double real;
      size_t offset;  // text: in texts_
    };
  };
  bool write(sqlite3_stmt* statement, size_t first_row, size_t rows);

  sqlite3_stmt* many_ = nullptr;  // kRows rows
  sqlite3_stmt* one_ = nullptr;
  size_t columns_ = 0, rows_ = 0;
  std::vector<Cell> cells_;
  std::string texts_;
};

}  // namespace preserve
