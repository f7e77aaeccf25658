// SPDX-License-Identifier: Apache-2.0
#include "db/untrusted.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "common/error.h"
#include "db/trace_db.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;

class Connection {
 public:
  explicit Connection(const std::filesystem::path& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
  }
  ~Connection() { sqlite3_close(handle); }
  int run(const char* sql) const { return sqlite3_exec(handle, sql, nullptr, nullptr, nullptr); }

  sqlite3* handle = nullptr;
};

// Pages that refer to each other can make a small table endless, as this query is.
constexpr const char* kEndless =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";

TEST(Distrust, NoStatementRunsForEver) {
  const test::TemporaryDirectory folder;
  Distrust distrust(20'000'000);
  const Connection connection(folder / "foreign.db");
  distrust.apply(connection.handle);
  EXPECT_EQ(connection.run("CREATE TABLE t (x)"), SQLITE_OK);
  EXPECT_EQ(connection.run(kEndless), SQLITE_INTERRUPT);
  EXPECT_THAT(sqlite_error(connection.handle), HasSubstr("far longer than a file of its size"));
}

TEST(Distrust, AnAttachedFileIsNotReadForEverEither) {
  const test::TemporaryDirectory folder;
  Distrust distrust(20'000'000);
  const Connection connection(folder / "own.db");
  distrust.apply_to_attached(connection.handle, folder / "foreign.db");
  EXPECT_EQ(connection.run(kEndless), SQLITE_INTERRUPT);
}

TEST(Distrust, BoundsWhatAForeignFileMayContain) {
  const test::TemporaryDirectory folder;
  Distrust distrust;
  const Connection connection(folder / "foreign.db");
  connection.run(
      "CREATE TABLE t (x); CREATE VIEW v AS SELECT 1; CREATE TRIGGER w AFTER INSERT ON t "
      "BEGIN DELETE FROM t; END");
  distrust.apply(connection.handle);
  EXPECT_EQ(connection.run("SELECT * FROM v"), SQLITE_ERROR);
  EXPECT_EQ(connection.run("INSERT INTO t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(connection.run("SELECT 1 / (SELECT count(*) FROM t)"), SQLITE_OK);
  EXPECT_EQ(connection.run("SELECT zeroblob(1000000000)"), SQLITE_TOOBIG);
  std::string deep = "1";
  for (int i = 0; i < 200; ++i) deep += "+1";
  EXPECT_EQ(connection.run(("SELECT " + deep).c_str()), SQLITE_ERROR);
  EXPECT_EQ(connection.run("ATTACH DATABASE ':memory:' AS other"), SQLITE_ERROR);
}

TEST(Distrust, IsAppliedToEveryTraceThatIsOpened) {
  const test::TemporaryDirectory folder;
  const std::filesystem::path path = folder / "trace.db";
  test::write_synthetic_trace(path);
  const TraceDb db = TraceDb::open(path);
  EXPECT_THAT([&] { db.query("ATTACH DATABASE ':memory:' AS other").next(); },
              testing::ThrowsMessage<Error>(HasSubstr("too many attached")));
}

}  // namespace
}  // namespace preserve
