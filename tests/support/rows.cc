// SPDX-License-Identifier: Apache-2.0
#include "tests/support/rows.h"

#include <sqlite3.h>

#include <memory>

#include "common/error.h"

namespace preserve {
extern const std::string_view kSchemaSql, kViewsSql;

namespace test {
namespace {

// Of an empty trace: a Query does not say how many columns it has.
int columns_of(const std::string& sql) {
  static const std::unique_ptr<sqlite3, decltype(&sqlite3_close)> empty = [] {
    sqlite3* db = nullptr;
    const std::string schema = std::string(kSchemaSql) + std::string(kViewsSql);
    if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
        sqlite3_exec(db, schema.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
      throw internal_error("{}", sqlite3_errmsg(db));
    }
    return std::unique_ptr<sqlite3, decltype(&sqlite3_close)>(db, sqlite3_close);
  }();
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(empty.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    throw internal_error("{}: {}", sql, sqlite3_errmsg(empty.get()));
  }
  const int columns = sqlite3_column_count(statement);
  sqlite3_finalize(statement);
  return columns;
}

}  // namespace

std::vector<std::string> rows(const TraceDb& db, const std::string& sql) {
  std::vector<std::string> found;
  const int columns = columns_of(sql);
  Query query = db.query(sql);
  while (query.next()) {
    std::string& row = found.emplace_back();
    for (int i = 0; i < columns; ++i) {
      if (i > 0) row += ' ';
      row += query.is_null(i) ? "-" : query.text(i);
    }
  }
  return found;
}

}  // namespace test
}  // namespace preserve
