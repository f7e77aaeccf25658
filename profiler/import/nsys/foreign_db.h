// SPDX-License-Identifier: Apache-2.0
// An SQLite file of another program, read without trusting it: it is neither changed nor locked,
// and nothing in its schema runs. Errors are input_error naming the file.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/no_copy.h"
#include "db/untrusted.h"

namespace preserve::import {

class ForeignDb : NoCopy {
 public:
  explicit ForeignDb(const std::filesystem::path& path) : file_(path.string()) {
    // immutable=1: no journal of the file is looked for, none is written.
    std::string uri = "file:";
    for (const char c : std::filesystem::absolute(path).string()) {
      if (c == '?' || c == '#' || c == '%') {
        uri += fmt::format("%{:02x}", static_cast<unsigned char>(c));
      } else {
        uri += c;
      }
    }
    uri += "?immutable=1";
    // One thread reads it, and a lock per value would cost more than the value.
    constexpr int kFlags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(uri.c_str(), &handle_, kFlags, nullptr) != SQLITE_OK) {
      const std::string why = sqlite3_errmsg(handle_);
      sqlite3_close_v2(handle_);
      throw input_error("{}: cannot open: {}", file_, why);
    }
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    distrust_.apply(handle_);
  }
  ~ForeignDb() { sqlite3_close_v2(handle_); }

  const std::string& file() const { return file_; }
  sqlite3* handle() const { return handle_; }
  [[noreturn]] void fail() const {
    throw input_error("{}: cannot read: {} (damaged, or not an SQLite database)", file_,
                      sqlite_error(handle_));
  }

 private:
  std::string file_;
  sqlite3* handle_ = nullptr;
  Distrust distrust_;
};

class Rows : NoCopy {
 public:
  Rows(const ForeignDb& db, const std::string& sql) : db_(db) {
    if (sqlite3_prepare_v2(db.handle(), sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK)
      db.fail();
  }
  ~Rows() { sqlite3_finalize(statement_); }

  bool next() {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) db_.fail();
    return false;
  }
  bool is_integer(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_INTEGER;
  }
  bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string_view text(int column) const {
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    if (data == nullptr) return {};
    return {data, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
  }
  std::string_view bytes(int column) const {  // of a blob or a text
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    if (data == nullptr) return {};
    return {data, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
  }
  void bind(int64_t value) {
    sqlite3_reset(statement_);
    sqlite3_bind_int64(statement_, 1, value);
  }

 private:
  const ForeignDb& db_;
  sqlite3_stmt* statement_ = nullptr;
};

// Columns of a table, by name. Empty: no such table. A view in its place is refused: it may compute
// for ever.
std::set<std::string> columns_of(const ForeignDb& db, const std::string& table);

// SELECT of the wanted columns in their order; NULL in place of those that the table does not have.
std::string select_of(const std::set<std::string>& have, const std::string& table,
                      const std::vector<std::string>& want);

}  // namespace preserve::import
