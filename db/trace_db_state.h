// SPDX-License-Identifier: Apache-2.0
// What a TraceDb holds: shared by trace_db.cc (rows) and trace_db_open.cc (files).
#pragma once

#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/error.h"
#include "db/bulk_insert.h"
#include "db/trace_db.h"
#include "db/untrusted.h"

namespace preserve {

// Tables that producers fill row by row.
enum Insert {
  kProcess,
  kDevice,
  kStream,
  kRange,
  kOp,
  kCollective,
  kTensor,
  kAccess,
  kGemm,
  kStep,
  kString,
  kCounter,
  kInsertCount
};

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

struct TraceDb::State {
  std::string file;
  sqlite3* handle = nullptr;
  Distrust distrust;
  bool producing = false;
  bool growing = false;   // by transaction()
  int writer = -1;        // holds the lock of the only one that makes it grow
  int64_t synced_ns = 0;  // when its transactions were last on the disk
  std::array<BulkInsert, kInsertCount> inserts;
  std::array<int64_t, kInsertCount> last_id{};
  std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>> strings;
  bool names_in_table = false;             // `strings` no longer holds all of them
  std::shared_ptr<sqlite3_stmt> repeated;  // the last statement that execute() ran
  std::string repeated_sql;

  ~State() {
    repeated.reset();
    for (BulkInsert& insert : inserts) insert.finalize();
    if (growing) {
      // One file that can be read in a folder that cannot be written. Fails when others are reading
      // it: then it keeps its log.
      sqlite3_busy_timeout(handle, 0);
      sqlite3_exec(handle, "PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr);
    }
    sqlite3_close_v2(handle);
    // Not before: closing any descriptor of a file ends the locks that SQLite has on it.
    if (writer >= 0) ::close(writer);
  }
  [[noreturn]] void fail(std::string_view doing) const {
    throw input_error("{}: {}: {}", file, doing, sqlite_error(handle));
  }
  // What the CHECKs of a table ask for and no type of add() says.
  void require(bool good, const char* else_what) const {
    if (!good) throw input_error("{}: cannot add a row: {}", file, else_what);
  }
  void run(const char* sql) const {
    if (sqlite3_exec(handle, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail("cannot set up");
  }
  std::shared_ptr<sqlite3_stmt> prepare(const std::string& sql) const {
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v2(handle, sql.c_str(), -1, &raw, nullptr) != SQLITE_OK)
      fail("cannot read");
    return {raw, &sqlite3_finalize};
  }
  void begin_to_grow();
  int64_t next_id(Insert table) { return ++last_id[table]; }

  template <typename... Values>
  void add(Insert table, const Values&... values) {
    inserts[table].add(values...);
    if (inserts[table].is_full()) write(table);
  }

  // A query sees every row that was added.
  void flush() {
    for (size_t table = 0; table < inserts.size(); ++table) {
      if (!inserts[table].is_empty()) write(static_cast<Insert>(table));
    }
  }
  void write(Insert table) {
    if (!inserts[table].flush()) fail("cannot add a row");
    // These are numbered by SQLite, on from the last one, and named before they are written.
    if ((table == kOp || table == kRange) && sqlite3_last_insert_rowid(handle) != last_id[table]) {
      throw internal_error("{}: rows were added or deleted between those of add()", file);
    }
  }
};

}  // namespace preserve
