// SPDX-License-Identifier: Apache-2.0
// Rows of one table on their way into SQLite, gathered and written many per statement: starting and
// ending a statement costs more than a row does (measured: 2.3 times the rows per second). What a
// place of the statement holds from the time before is not bound again.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/no_copy.h"
#include "db/ids.h"

struct sqlite3;
struct sqlite3_stmt;

namespace preserve {

// A text that is never freed, as the words of an enumeration.
struct Word {
  const char* text;
};

// NULL for an empty text.
inline std::optional<std::string_view> or_null(std::string_view text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

class BulkInsert : NoCopy {
 public:
  ~BulkInsert();

  // `into` is "INSERT INTO op" or "INSERT OR REPLACE INTO counter". False when SQLite refuses.
  bool prepare(sqlite3* handle, const std::string& into, int columns);
  void finalize();

  // One row: its values from left to right. Texts are copied; an empty optional, and the id of no
  // row, is NULL.
  template <typename... Values>
  void add(const Values&... values) {
    (put(values), ...);
    ++rows_;
  }

  bool is_empty() const { return rows_ == 0; }
  bool is_full() const { return rows_ == kRows; }  // then flush() must come before the next row
  // Writes what has gathered. False when a row was refused; which one is not known any more.
  bool flush();

 private:
  static constexpr size_t kRows = 64;  // per statement; more gains nothing

  enum class Type : uint8_t { null, integer, real, text, word };
  struct Cell {
    Type type = Type::null;
    uint32_t bytes = 0;  // text
    uint64_t value = 0;  // its bits; text: the offset in texts_; word: the address
    bool operator==(const Cell&) const = default;
  };
  void put(std::nullptr_t) { cell(Type::null, 0); }
  void put(std::integral auto value) { cell(Type::integer, static_cast<uint64_t>(value)); }
  void put(double value) { cell(Type::real, std::bit_cast<uint64_t>(value)); }
  void put(Word word) { cell(Type::word, reinterpret_cast<uintptr_t>(word.text)); }
  void put(std::string_view text) {
    cell(Type::text, texts_.size(), static_cast<uint32_t>(text.size()));
    texts_ += text;
  }
  template <typename Tag>
  void put(Id<Tag> id) {
    id ? put(id.value) : put(nullptr);
  }
  template <typename Value>
  void put(const std::optional<Value>& value) {
    value ? put(*value) : put(nullptr);
  }

  void cell(Type type, uint64_t value, uint32_t bytes = 0) {
    cells_[next_cell_++] = {type, bytes, value};
  }
  void bind(sqlite3_stmt* statement, int position, const Cell& cell) const;
  static bool run(sqlite3_stmt* statement);

  sqlite3_stmt* many_ = nullptr;  // kRows rows
  sqlite3_stmt* one_ = nullptr;
  size_t columns_ = 0, rows_ = 0, next_cell_ = 0;
  std::vector<Cell> cells_;            // of kRows rows
  std::vector<Cell> bound_;            // what many_ holds
  const char* bound_texts_ = nullptr;  // where its texts lie
  std::string texts_;
};

}  // namespace preserve
