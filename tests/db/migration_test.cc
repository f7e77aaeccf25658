// SPDX-License-Identifier: Apache-2.0
#include "db/migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <array>

#include "common/error.h"
#include "db/trace_db.h"

namespace preserve {
namespace {

sqlite3* version_one() {
  sqlite3* db = nullptr;
  sqlite3_open(":memory:", &db);
  sqlite3_exec(db, "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (7); PRAGMA user_version = 1",
               nullptr, nullptr, nullptr);
  return db;
}

int64_t first_integer(sqlite3* db, const char* sql) {
  sqlite3_stmt* statement = nullptr;
  EXPECT_EQ(sqlite3_prepare_v2(db, sql, -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW);
  const int64_t value = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return value;
}

TEST(Migration, StepsAreAppliedInOrderFromTheFilesVersion) {
  const std::array steps{Migration{0, "DROP TABLE t"},
                         Migration{1, "ALTER TABLE t ADD COLUMN b INTEGER DEFAULT 5"},
                         Migration{2, "UPDATE t SET a = a * 10 + b"}};
  sqlite3* db = migrated_copy(version_one(), 1, steps, "x.db");
  EXPECT_EQ(first_integer(db, "SELECT a FROM t"), 75);
  EXPECT_EQ(first_integer(db, "PRAGMA user_version"), 3);
  sqlite3_close_v2(db);
}

TEST(Migration, FailureNamesTheFileAndTheVersions) {
  const std::array steps{Migration{1, "UPDATE nothing SET a = 1"}};
  try {
    migrated_copy(version_one(), 1, steps, "x.db");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("x.db: cannot be brought from schema 1 to 2"));
  }
}

TEST(Migration, EveryPastVersionHasItsStep) {
  ASSERT_EQ(trace_migrations().size(), static_cast<size_t>(kTraceSchemaVersion - 1));
  for (size_t i = 0; i < trace_migrations().size(); ++i) {
    EXPECT_EQ(trace_migrations()[i].from_version, static_cast<int64_t>(i) + 1);
  }
}

}  // namespace
}  // namespace preserve
