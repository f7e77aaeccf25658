// SPDX-License-Identifier: Apache-2.0
#include "db/bulk_insert.h"

#include <sqlite3.h>

namespace preserve {
namespace {

constexpr size_t kRows = 64;  // per statement; more gains nothing

}  // namespace

BulkInsert::~BulkInsert() {
  finalize();
}

bool BulkInsert::prepare(sqlite3* handle, const std::string& into, int columns) {
  columns_ = static_cast<size_t>(columns);
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

BulkInsert& BulkInsert::integer(int64_t value) {
  Cell cell{Type::integer, 0, {}};
  cell.integer = value;
  cells_.push_back(cell);
  return *this;
}

BulkInsert& BulkInsert::real(double value) {
  Cell cell{Type::real, 0, {}};
  cell.real = value;
  cells_.push_back(cell);
  return *this;
}

BulkInsert& BulkInsert::text(std::string_view value) {
  Cell cell{Type::text, static_cast<uint32_t>(value.size()), {}};
  cell.offset = texts_.size();
  cells_.push_back(cell);
  texts_ += value;
  return *this;
}

BulkInsert& BulkInsert::null() {
  cells_.push_back(Cell{Type::null, 0, {}});
  return *this;
}

bool BulkInsert::is_full() const {
  return rows_ == kRows;
}

bool BulkInsert::write(sqlite3_stmt* statement, size_t first_row, size_t rows) {
  const Cell* cell = cells_.data() + first_row * columns_;
  for (int position = 1; position <= static_cast<int>(rows * columns_); ++position, ++cell) {
    switch (cell->type) {
      case Type::integer:
        sqlite3_bind_int64(statement, position, cell->integer);
        break;
      case Type::real:
        sqlite3_bind_double(statement, position, cell->real);
        break;
      case Type::text:  // stays where it is until after the step
        sqlite3_bind_text(statement, position, texts_.data() + cell->offset,
                          static_cast<int>(cell->bytes), SQLITE_STATIC);
        break;
      case Type::null:
        sqlite3_bind_null(statement, position);
    }
  }
  const int code = sqlite3_step(statement);
  sqlite3_reset(statement);
  return code == SQLITE_DONE;
}

bool BulkInsert::flush() {
  bool good = true;
  if (rows_ == kRows) {
    good = write(many_, 0, kRows);
  } else {
    for (size_t row = 0; good && row < rows_; ++row) good = write(one_, row, 1);
  }
  rows_ = 0;
  cells_.clear();
  texts_.clear();
  return good;
}

}  // namespace preserve
