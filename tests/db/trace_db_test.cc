// SPDX-License-Identifier: Apache-2.0
#include "db/trace_db.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <regex>

#include "common/error.h"
#include "common/output_file.h"
#include "tests/db/one_stream.h"
#include "tests/support/errors.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
extern const std::string_view kSchemaSql;
extern const std::string_view kViewsSql;

namespace {

using test::fails_with;
using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

void expect_refused(const std::filesystem::path& path, const testing::Matcher<std::string>& text) {
  EXPECT_THAT([&] { TraceDb::open(path); },
              testing::ThrowsMessage<Error>(testing::AllOf(HasSubstr(path.string()), text)));
}
void expect_refused(const std::filesystem::path& path, const char* text) {
  expect_refused(path, HasSubstr(text));
}

void change(const std::filesystem::path& path, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
}

class OpenRefuses : public testing::Test {
 protected:
  OpenRefuses() { test::write_synthetic_trace(path_); }
  // A trace after that change.
  void expect_refused_after(const std::string& sql, const char* says) const {
    SCOPED_TRACE(sql);
    test::write_synthetic_trace(path_);
    change(path_, sql);
    expect_refused(path_, says);
  }
  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "trace.db";
};

TEST_F(OpenRefuses, NewerVersionsOtherProgramsAndUnfinishedTraces) {
  for (const auto& [sql, says] :
       {std::pair("PRAGMA user_version = 99", "trace schema 99, this program knows up to 1"),
        {"PRAGMA application_id = 1", "another program"},
        {"DELETE FROM meta WHERE key = 'finished'",
         "was never finished by the tool that wrote it"}}) {
    expect_refused_after(sql, says);
  }
}

constexpr const char* kEndless =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";

// Also of a name that differs in case.
TEST_F(OpenRefuses, AViewInPlaceOfATable) {
  for (const auto& [table, view] : {std::pair("meta", "meta"),
                                    {"op", "op"},
                                    {"op", "Op"},
                                    {"string", "String"},
                                    {"loss", "Loss"},
                                    {"step", "Step"}}) {
    expect_refused_after(fmt::format("DROP TABLE {}; CREATE VIEW {} AS {}", table, view, kEndless),
                         "views where tables should be");
  }
}

// SQLite works it out for every row that is read, at any cost.
TEST_F(OpenRefuses, AComputedColumn) {
  for (const char* kind : {"VIRTUAL", "STORED"}) {
    expect_refused_after(
        fmt::format("DROP TABLE counter; CREATE TABLE counter (op_id INTEGER, metric TEXT, "
                    "value AS (length(hex(zeroblob(400000000)))) {})",
                    kind),
        "computed columns");
  }
}

TEST_F(OpenRefuses, AFileWithMoreBehindItsDatabase) {
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) + (int64_t{1} << 30));
  expect_refused(path_, "is damaged");
}

TEST_F(OpenRefuses, ATruncatedFileAtAnyLength) {
  const auto size = std::filesystem::file_size(path_);
  const std::string whole = read_text_file(path_);
  for (const double part : {0.999, 0.5, 0.1, 0.01, 0.001}) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc)
        << whole.substr(0, static_cast<size_t>(static_cast<double>(size) * part));
    // Which of the two depends on whether the pages of the schema are there.
    expect_refused(path_, testing::AnyOf(HasSubstr("not a readable"), HasSubstr("is truncated")));
  }
  std::ofstream(path_, std::ios::binary | std::ios::trunc) << "";
  expect_refused(path_, "another program");
}

TEST_F(OpenRefuses, AFileThatIsNoDatabase) {
  std::ofstream(path_, std::ios::trunc) << std::string(5000, 'x');
  expect_refused(path_, "not a readable trace database");
}

TEST_F(OpenRefuses, ACorruptHeaderPage) {
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100);
  file << std::string(400, '\xff');
  file.close();
  expect_refused(path_, "not a readable trace database");
}

TEST_F(OpenRefuses, MissingFilesAndFolders) {
  expect_refused(directory_ / "none.db", "no such file");
  expect_refused(directory_.path(), "not a regular file");
}

// What a producer leaves that was killed before finish(): nothing is committed.
TEST_F(OpenRefuses, AFileOfAKilledProducer) {
  const auto path = directory_ / "half.db";
  {
    TraceDb db = TraceDb::create(path);
    db.set_meta("a", "b");
  }
  expect_refused(path, "was never finished");
}

TEST(TraceDb, RowsComeBackAsTheyWentIn) {
  const TemporaryDirectory directory;
  {
    TraceDb db = TraceDb::create(directory / "t.db");
    const ProcessId process = db.add(ProcessRow{.host = "h",
                                                .pid = 7,
                                                .rank = 3,
                                                .world_size = 4,
                                                .command = "x y",
                                                .start_ns = 1,
                                                .end_ns = 9,
                                                .complete = false});
    const StreamId stream = db.add(StreamRow{.process = process, .native_id = 8, .name = "main"});
    const OpId op = db.add(OpRow{.stream = stream,
                                 .kind = OpKind::collective,
                                 .name = db.intern("ar"),
                                 .start_ns = 2,
                                 .end_ns = 5});
    db.add(CollectiveRow{
        .op = op, .function = "allreduce", .bytes = 64, .blocking = false, .source = "pmpi"});
    db.add_loss(process, "nvtx", "dropped", 3);
    db.finish();
  }
  const TraceDb db = TraceDb::open(directory / "t.db");
  EXPECT_THAT(
      test::rows(
          db, "SELECT rank, name, dur_ns, function, bytes, dtype, blocking FROM collective_named"),
      ElementsAre("3 ar 3 allreduce 64 - 0"));
  EXPECT_EQ(db.query_integer("SELECT count FROM loss_nonzero"), 3);
  EXPECT_EQ(db.query_integer("SELECT complete FROM process"), 0);
}

// Statements keep what was bound to them; texts of one length lie in the same places.
TEST(TraceDb, RowsDoNotMixWithThoseBeforeThem) {
  const TemporaryDirectory directory;
  constexpr int64_t kRows = 1000;
  const auto metric = [](int64_t i) {
    return i < 700 ? fmt::format("m{:04}", i % 7) : fmt::format("{:0{}}", i, i % 90 + 4);
  };
  const auto number = [](int64_t i, int64_t period) {
    return i / 64 % period == 0 ? std::nullopt : std::optional(i % (period * 5));
  };
  {
    TraceDb db = TraceDb::create(directory / "t.db");
    const StreamId stream = test::add_stream(db, StreamKind::gpu);
    const StringId name = db.intern("kernel");
    for (int64_t i = 0; i < kRows; ++i) {
      const OpId op = db.add(OpRow{.stream = stream,
                                   .kind = i / 70 % 2 == 0 ? OpKind::copy : OpKind::compute,
                                   .name = name,
                                   .start_ns = i,
                                   .end_ns = i + 1,
                                   .correlation_id = number(i, 2),
                                   .graph_id = number(i, 3)});
      db.add_counter(op, metric(i), i % 3 == 0 ? -0.5 : static_cast<double>(i));
    }
    db.finish();
  }
  const TraceDb db = TraceDb::open(directory / "t.db");
  Query rows = db.query(
      "SELECT kind, correlation_id, graph_id, metric, value FROM op JOIN counter ON op_id = id "
      "ORDER BY id");
  for (int64_t i = 0; i < kRows; ++i) {
    ASSERT_TRUE(rows.next());
    EXPECT_EQ(rows.op_kind(0), i / 70 % 2 == 0 ? OpKind::copy : OpKind::compute);
    EXPECT_EQ(rows.optional_integer(1), number(i, 2));
    EXPECT_EQ(rows.optional_integer(2), number(i, 3));
    EXPECT_EQ(rows.text(3), metric(i));
    EXPECT_EQ(rows.real(4), i % 3 == 0 ? -0.5 : static_cast<double>(i));
  }
  EXPECT_FALSE(rows.next());
}

TEST(TraceDb, RowsThatTheSchemaForbidsAreRefused) {
  TraceDb db = TraceDb::create(":memory:");
  EXPECT_THROW(db.add(AccessRow{.op = {1}, .tensor = {1}, .bytes = -1, .source = "s"}), Error);
  EXPECT_THROW(db.add(AccessRow{.op = {1}, .tensor = {1}, .offset_bytes = -1, .source = "s"}),
               Error);
  EXPECT_THROW(db.add(AccessRow{.op = {1}, .tensor = {1}, .source = "s", .confidence = 1.5}),
               Error);
  EXPECT_THROW(db.add(CollectiveRow{.op = {1}, .function = "f", .source = "s", .confidence = -0.1}),
               Error);
  EXPECT_THROW(db.add(TensorRow{.process = {1}, .name = {1}, .bytes = -1, .source = "s"}), Error);
  EXPECT_THROW(db.add(GemmRow{.op = {1}, .m = 1, .n = 0, .k = 1, .source = "s"}), Error);
  EXPECT_THROW(db.add(OpRow{.stream = {1}, .name = {1}, .start_ns = 5, .end_ns = 4}), Error);
}

TEST(TraceDb, EqualNamesAreStoredOnceAndBadBytesReplaced) {
  TraceDb db = TraceDb::create(":memory:");
  EXPECT_EQ(db.intern("a"), db.intern("a"));
  EXPECT_NE(db.intern("a"), db.intern("b"));
  const StringId bad = db.intern(std::string_view("x\xff\xc0\xafy", 5));
  const StringId cut = db.intern(std::string_view("nul\0tail", 8));
  db.finish();
  EXPECT_THAT(
      test::rows(db, fmt::format("SELECT value FROM string WHERE id IN ({}, {}) ORDER BY id",
                                 bad.value, cut.value)),
      ElementsAre("x\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdy", "nul"));
}

TEST(TraceDb, CoverageAddsUpAlsoForOverlappingOperators) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db, StreamKind::gpu);
  const StringId name = db.intern("k");
  for (const auto& [start, end] : {std::pair{0, 10}, {5, 12}, {6, 7}, {20, 30}}) {
    db.add(OpRow{
        .stream = stream, .kind = OpKind::compute, .name = name, .start_ns = start, .end_ns = end});
  }
  db.finish();
  EXPECT_THAT(test::rows(db, "SELECT wall_ns, attributed_ns, idle_ns FROM stream_coverage"),
              ElementsAre("30 22 8"));
}

TEST(TraceDb, AFinishedTraceIsNotChanged) {
  TraceDb db = test::synthetic_trace();
  EXPECT_THROW(db.set_meta("a", "b"), Error);
  EXPECT_THROW(db.query("DELETE FROM op").next(), Error);
}

// Queries see the program's own views, whatever the file has under their names.
TEST_F(OpenRefuses, NoViewButItsOwnIsRun) {
  change(path_, fmt::format("DROP VIEW op_named; CREATE VIEW op_named AS {}", kEndless));
  const TraceDb db = TraceDb::open(path_);
  EXPECT_EQ(db.query_integer("SELECT count(*) FROM op_named"),
            db.query_integer("SELECT count(*) FROM op"));
}

// Importers number operators before their rows are there.
TEST(TraceDb, OperatorsAreNumberedOneAfterAnother) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db, StreamKind::gpu);
  const OpId promised = db.next_op();
  EXPECT_EQ(db.add(OpRow{.stream = stream, .name = db.intern("a")}), promised);
  db.add(OpRow{.stream = stream, .name = db.intern("b")});
  db.execute("DELETE FROM op WHERE id = (SELECT MAX(id) FROM op)");
  db.add(OpRow{.stream = stream, .name = db.intern("c")});
  EXPECT_THROW(db.finish(), Error);
}

class Appending : public testing::Test {
 protected:
  Appending() {
    TraceDb db = TraceDb::create(path_);
    db.execute(
        "INSERT INTO cell (model, ranks, batch, context, dtype, status) VALUES "
        "('m', 2, 1, 1024, 'fp16', 'pending')");
    db.finish();
  }
  // What another reader sees.
  int64_t cells_where(const std::string& condition) const {
    return test::count(TraceDb::open(path_), "cell WHERE " + condition);
  }
  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "grid.db";
};

TEST_F(Appending, KeepsWholeTransactionsOnly) {
  {
    TraceDb db = TraceDb::append(path_);
    db.transaction([&] { db.execute("UPDATE cell SET status = 'failed', reason = 'x'"); });
    EXPECT_EQ(cells_where("reason = 'x'"), 1) << "others see it at once";
    EXPECT_THROW(db.transaction([&] {
      db.execute("UPDATE cell SET reason = 'y'");
      db.execute("UPDATE cell SET status = 'no such word'");
    }),
                 Error);
    db.transaction([&] { db.execute("UPDATE cell SET pairs = 3"); });
  }
  EXPECT_EQ(cells_where("reason = 'x' AND pairs = 3"), 1);
}

TEST_F(Appending, LeavesNoTraceOfWhatAKilledWriterLeftHalfDone) {
  const pid_t writer = fork();
  if (writer == 0) {
    TraceDb db = TraceDb::append(path_);
    db.transaction([&] {
      db.execute("UPDATE cell SET reason = ?", {std::string(size_t{10'000'000}, 'x')});
      _exit(0);  // as if killed: more is written than the cache holds, nothing is committed
    });
  }
  waitpid(writer, nullptr, 0);
  ASSERT_TRUE(std::filesystem::exists(path_.string() + "-wal"));
  EXPECT_EQ(cells_where("reason IS NULL"), 1);
  { const TraceDb db = TraceDb::append(path_); }
  EXPECT_FALSE(std::filesystem::exists(path_.string() + "-wal")) << "one file when it is closed";
  EXPECT_EQ(cells_where("reason IS NULL"), 1);
}

TEST_F(Appending, OneWriterAtATimeMakesAFileGrow) {
  const auto change = [&] {
    TraceDb db = TraceDb::append(path_);
    db.transaction([&] { db.execute("UPDATE cell SET reason = 'x'"); });
  };
  {
    TraceDb first = TraceDb::append(path_);
    first.transaction([] {});
    EXPECT_THAT(change, fails_with(ErrorKind::input, HasSubstr("another command is filling it")));
  }
  change();
  EXPECT_EQ(cells_where("reason = 'x'"), 1);
}

TEST_F(Appending, RunsNoTriggersOfTheFile) {
  change(path_, "CREATE TRIGGER t AFTER UPDATE ON cell BEGIN UPDATE cell SET pairs = 99; END");
  TraceDb db = TraceDb::append(path_);
  db.transaction([&] { db.execute("UPDATE cell SET reason = 'x'"); });
  EXPECT_EQ(db.query_integer("SELECT pairs FROM cell"), std::nullopt);
}

// The schema is documentation too: every table, view and column says what it is.
TEST(Schema, EveryTableAndColumnIsCommented) {
  std::istringstream lines{std::string(kSchemaSql)};
  std::string line, previous;
  bool in_table = false, pending = false;
  int columns = 0;
  const std::regex column(R"(^  [a-z_]+ +(INTEGER|TEXT|REAL)\b.*)");
  while (std::getline(lines, line)) {
    if (line.rfind("CREATE TABLE", 0) == 0) {
      EXPECT_EQ(previous.rfind("--", 0), 0u) << line;
      in_table = true;
    } else if (in_table && std::regex_match(line, column)) {
      ++columns;
      EXPECT_FALSE(pending) << "uncommented column before: " << line;
      pending = line.find("--") == std::string::npos;
    } else if (in_table && pending) {
      pending = line.find("--") == std::string::npos;  // a CHECK line may carry the comment
    }
    if (line.starts_with(')')) in_table = false;
    previous = line;
  }
  EXPECT_FALSE(pending);
  EXPECT_GT(columns, 80);
}

TEST(Schema, EveryViewIsCommentedAndRuns) {
  std::istringstream lines{std::string(kViewsSql)};
  std::string line, previous;
  const TraceDb db = test::synthetic_trace();
  while (std::getline(lines, line)) {
    if (line.rfind("CREATE VIEW ", 0) == 0) {
      EXPECT_EQ(previous.rfind("--", 0), 0u) << line;
      const std::string name = line.substr(12, line.find(' ', 12) - 12);
      EXPECT_NO_THROW(db.query("SELECT * FROM " + name).next()) << name;
    }
    previous = line;
  }
}

}  // namespace
}  // namespace preserve
