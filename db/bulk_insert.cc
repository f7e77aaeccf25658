// SPDX-License-Identifier: Apache-2.0
#include "db/bulk_insert.h"

#include <sqlite3.h>

namespace preserve {

BulkInsert::~BulkInsert() {
  finalize();
}

bool BulkInsert::prepare(sqlite3* handle, const std::string& into, int columns) {
  columns_ = static_cast<size_t>(columns);
  cells_.resize(kRows * columns_);
  bound_.resize(kRows * columns_);  // NULL, as the parameters of a new statement are
  std::string row = "(?";
  for (int i = 1; i < columns; ++i) row += ",?";
  row += ')';
  const std::string single = into + " VALUES " + row;
  std::string several = single;
  for (size_t i = 1; i < kRows; ++i) several += "," + row;
  return sqlite3_prepare_v3(handle, single.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &one_,
                            nullptr) == SQLITE_OK &&
         sqlite3_prepare_v3(handle, several.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &many_,
                            nullptr) == SQLITE_OK;
}

void BulkInsert::finalize() {
  sqlite3_finalize(one_);
  sqlite3_finalize(many_);
  one_ = many_ = nullptr;
}

void BulkInsert::bind(sqlite3_stmt* statement, int position, const Cell& cell) const {
  switch (cell.type) {
    case Type::integer:
      sqlite3_bind_int64(statement, position, static_cast<int64_t>(cell.value));
      break;
    case Type::real:
      sqlite3_bind_double(statement, position, std::bit_cast<double>(cell.value));
      break;
    case Type::text:  // stays where it is until after the step
      sqlite3_bind_text(statement, position, texts_.data() + cell.value,
                        static_cast<int>(cell.bytes), SQLITE_STATIC);
      break;
    case Type::word:
      sqlite3_bind_text(statement, position,
                        reinterpret_cast<const char*>(static_cast<uintptr_t>(cell.value)), -1,
                        SQLITE_STATIC);
      break;
    case Type::null:
      sqlite3_bind_null(statement, position);
  }
}

bool BulkInsert::run(sqlite3_stmt* statement) {
  const int code = sqlite3_step(statement);
  sqlite3_reset(statement);
  return code == SQLITE_DONE;
}

bool BulkInsert::flush() {
  bool good = true;
  if (rows_ == kRows) {
    // Of a text SQLite keeps where it lies, not what it says.
    const bool moved = bound_texts_ != texts_.data();
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (bound_[i] == cells_[i] && !(moved && cells_[i].type == Type::text)) continue;
      bind(many_, static_cast<int>(i) + 1, cells_[i]);
      bound_[i] = cells_[i];
    }
    bound_texts_ = texts_.data();
    good = run(many_);
  } else {
    for (size_t row = 0; good && row < rows_; ++row) {
      for (size_t column = 0; column < columns_; ++column) {
        bind(one_, static_cast<int>(column) + 1, cells_[row * columns_ + column]);
      }
      good = run(one_);
    }
  }
  rows_ = next_cell_ = 0;
  texts_.clear();
  return good;
}

}  // namespace preserve
