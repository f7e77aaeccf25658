// SPDX-License-Identifier: Apache-2.0
#include "db/migration.h"

#include <sqlite3.h>

#include <array>
#include <memory>
#include <string_view>

#include "common/error.h"

namespace preserve {

extern const std::string_view kSchema2Sql;  // db/schema_2.sql

std::span<const Migration> trace_migrations() {
  static const std::array kSteps{Migration{1, kSchema2Sql.data()}};  // embedded with a NUL behind
  return kSteps;
}

sqlite3* migrated_copy(sqlite3* old, int64_t version, std::span<const Migration> migrations,
                       const std::string& file) {
  const std::unique_ptr<sqlite3, int (*)(sqlite3*)> source(old, &sqlite3_close_v2);
  sqlite3* raw = nullptr;
  if (sqlite3_open(":memory:", &raw) != SQLITE_OK) throw internal_error("no database in memory");
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> copy(raw, &sqlite3_close_v2);
  sqlite3_backup* backup = sqlite3_backup_init(raw, "main", source.get(), "main");
  sqlite3_backup_step(backup, -1);
  if (sqlite3_backup_finish(backup) != SQLITE_OK) {
    throw input_error("{}: cannot be read for migration: {}", file, sqlite3_errmsg(raw));
  }
  for (const Migration& migration : migrations) {
    if (migration.from_version < version) continue;
    if (migration.from_version > version) break;
    if (sqlite3_exec(raw, migration.sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
      throw input_error("{}: cannot be brought from schema {} to {}: {}", file, version,
                        version + 1, sqlite3_errmsg(raw));
    }
    ++version;
  }
  const std::string stamp = fmt::format("PRAGMA user_version = {}", version);
  sqlite3_exec(raw, stamp.c_str(), nullptr, nullptr, nullptr);
  return copy.release();
}

}  // namespace preserve
