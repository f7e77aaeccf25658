// SPDX-License-Identifier: Apache-2.0
// How a trace file begins and ends, and what a foreign one has to be before anything reads it.
#include <cctype>
#include <csignal>
#include <utility>

#include "db/trace_db_state.h"

namespace preserve {

extern const std::string_view kSchemaSql;  // db/schema.sql
extern const std::string_view kViewsSql;   // db/views.sql

namespace {

constexpr int kPatienceMs = 10'000;  // for a file that another process is changing or reading
constexpr int kApplicationId = 0x50525356;  // "PRSV", read by file(1)

struct InsertInto {
  const char* into;
  int columns;
};
constexpr std::array<InsertInto, kInsertCount> kInserts{{
    {"INSERT INTO process", 10},
    {"INSERT INTO device", 8},
    {"INSERT INTO stream", 6},
    {"INSERT INTO range", 10},
    {"INSERT INTO op", 11},
    {"INSERT INTO collective", 11},
    {"INSERT INTO tensor", 9},
    {"INSERT INTO access", 8},
    {"INSERT INTO gemm", 6},
    {"INSERT INTO step", 7},
    {"INSERT INTO string", 2},
    {"INSERT OR REPLACE INTO counter", 3},
}};

// "'op','range',...": what the schema creates.
std::string table_names_sql() {
  constexpr std::string_view kCreate = "CREATE TABLE ";
  std::string names;
  for (size_t at = kSchemaSql.find(kCreate); at != std::string_view::npos;
       at = kSchemaSql.find(kCreate, at)) {
    at += kCreate.size();
    names += fmt::format("{}'{}'", names.empty() ? "" : ",",
                         kSchemaSql.substr(at, kSchemaSql.find(' ', at) - at));
  }
  return names;
}

// views.sql with every view as one of this connection, which hides those of the file.
std::string temporary_views_sql() {
  constexpr std::string_view kCreate = "CREATE VIEW ", kTemporary = "CREATE TEMP VIEW ";
  std::string sql(kViewsSql);
  for (size_t at = sql.find(kCreate); at != std::string::npos;
       at = sql.find(kCreate, at + kTemporary.size())) {
    sql.replace(at, kCreate.size(), kTemporary);
  }
  return sql;
}

void check_header(const TraceDb& db) {
  if (db.query_integer("PRAGMA application_id").value_or(0) != kApplicationId) {
    throw input_error("{}: is a database of another program, not a preserve trace", db.file());
  }
  const int64_t version = db.query_integer("PRAGMA user_version").value_or(0);
  if (version > kTraceSchemaVersion) {
    throw input_error("{}: has trace schema {}, this program knows up to {}: use a newer preserve",
                      db.file(), version, kTraceSchemaVersion);
  }
  if (version < 1) {
    throw input_error("{}: has no trace schema version: it is unfinished", db.file());
  }
}

// What is asked for as a table must be one: a view may compute for ever. SQLite finds a table
// whatever the case of its name.
void check_tables(const TraceDb& db) {
  const auto odd =
      db.query_integer(fmt::format("SELECT count(*) FROM sqlite_master WHERE name COLLATE NOCASE "
                                   "IN ({}) AND (type <> 'table' OR "
                                   "sql LIKE 'CREATE VIRTUAL%')",
                                   table_names_sql()));
  const auto meta =
      db.query_integer("SELECT 1 FROM sqlite_master WHERE name = 'meta' COLLATE NOCASE");
  if (!meta) {
    throw input_error("{}: was never finished by the tool that wrote it", db.file());
  }
  if (odd.value_or(0) > 0) {
    throw input_error("{}: has views where tables should be: no preserve tool wrote it", db.file());
  }
  // So may a column that is computed when it is read.
  if (db.query_integer("SELECT 1 FROM sqlite_master AS each, pragma_table_xinfo(each.name) AS own "
                       "WHERE each.type = 'table' AND own.hidden <> 0 LIMIT 1")) {
    throw input_error("{}: has computed columns: no preserve tool wrote it", db.file());
  }
}

// A truncated file opens well, and one with more behind it (a hole of any size, which its checksum
// would take hours for); compare the header's page count with the size on disk. Pages of a file
// that grows may be in its write-ahead log alone.
void check_size(const TraceDb& db, const std::filesystem::path& path) {
  std::error_code none;
  const auto size_bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  const auto log_bytes = std::filesystem::file_size(path.string() + "-wal", none);
  // After the size: a file only grows meanwhile.
  const int64_t pages = db.query_integer("PRAGMA page_count").value_or(0);
  const int64_t page_bytes = db.query_integer("PRAGMA page_size").value_or(0);
  const bool has_log = !none && log_bytes > 0;
  if (size_bytes < pages * page_bytes && !has_log) {
    // Unless it grew just now.
    if (static_cast<int64_t>(std::filesystem::file_size(path)) >= pages * page_bytes) return;
    throw input_error("{}: is truncated: {} of {} bytes", db.file(), size_bytes,
                      pages * page_bytes);
  }
  if (size_bytes > pages * page_bytes) {
    throw input_error("{}: is damaged: its database has {} of {} bytes", db.file(),
                      pages * page_bytes, size_bytes);
  }
}

// What SQLite's own words leave open.
void explain(int sqlite_code, const std::string& file) {
  if (sqlite_code == SQLITE_NOTADB || sqlite_code == SQLITE_CORRUPT ||
      sqlite_code == SQLITE_IOERR) {
    throw input_error("{}: is not a readable trace database (damaged or not SQLite)", file);
  }
  // The latter: its log cannot be used from a folder that cannot be written.
  if (sqlite_code == SQLITE_READONLY || sqlite_code == SQLITE_CANTOPEN) {
    throw input_error(
        "{}: is being written, or was left incomplete by an interrupted command: wait for that "
        "command, or run it again to repair the file",
        file);
  }
}

}  // namespace

TraceDb TraceDb::create(const std::filesystem::path& path) {
  ::signal(SIGXFSZ, SIG_IGN);  // a file that gets too long fails then, and can be spoken of
  auto state = std::make_unique<State>();
  state->file = path.string();
  // URIs so that other files can be attached read-only; absolute so that the path is never one.
  const std::filesystem::path name = path == ":memory:" ? path : std::filesystem::absolute(path);
  if (sqlite3_open_v2(
          name.c_str(), &state->handle,
          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
          nullptr) != SQLITE_OK) {
    state->fail("cannot create");
  }
  state->run(
      "PRAGMA page_size = 16384; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -65536;"
      // add() hands out the ids and sees to what a CHECK asks for; checking each row costs too
      // much.
      "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON");
  state->run(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}; BEGIN",
                         kApplicationId, kTraceSchemaVersion)
                 .c_str());
  state->run(std::string(kSchemaSql).c_str());
  state->run(std::string(kViewsSql).c_str());
  // The look-ups that every stage makes. Operators mostly come in the order of steps: then to
  // extend an index row by row costs half of sorting all of them at the end.
  state->run(
      "CREATE INDEX op_by_step ON op (step_id) WHERE step_id IS NOT NULL;"
      "CREATE INDEX step_by_process ON step (process_id);"
      "CREATE INDEX tensor_by_process ON tensor (process_id)");
  for (int i = 0; i < kInsertCount; ++i) {
    if (!state->inserts[i].prepare(state->handle, kInserts[i].into, kInserts[i].columns)) {
      state->fail("cannot prepare");
    }
  }
  state->producing = true;
  TraceDb db(std::move(state));
  db.set_meta("tool_version", PRESERVE_VERSION);
  db.set_meta("clock", "CLOCK_MONOTONIC");
  return db;
}

TraceDb TraceDb::open(const std::filesystem::path& path) {
  return checked(path, SQLITE_OPEN_READONLY);
}

TraceDb TraceDb::append(const std::filesystem::path& path) {
  TraceDb db = checked(path, SQLITE_OPEN_READWRITE);
  db.state_->producing = true;
  return db;
}

TraceDb TraceDb::checked(const std::filesystem::path& path, int flags) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw input_error(
        "{}: {}", path.string(),
        std::filesystem::exists(path, error) ? "is not a regular file" : "no such file");
  }
  auto state = std::make_unique<State>();
  state->file = path.string();
  if (sqlite3_open_v2(path.c_str(), &state->handle, flags | SQLITE_OPEN_NOMUTEX, nullptr) !=
      SQLITE_OK) {
    state->fail("cannot open");
  }
  sqlite3_busy_timeout(state->handle, kPatienceMs);
  state->distrust.apply(state->handle);
  TraceDb db(std::move(state));
  try {
    check_header(db);
    check_tables(db);
    check_size(db, path);
    if (db.meta("finished") != "1") {
      throw input_error("{}: was never finished by the tool that wrote it", db.file());
    }
    db.state_->run(temporary_views_sql().c_str());
  } catch (const Error&) {
    if (db.state_->handle != nullptr) explain(sqlite3_errcode(db.state_->handle), db.file());
    throw;
  }
  return db;
}

void TraceDb::attach(const std::filesystem::path& path, const std::string& name) {
  state_->distrust.apply_to_attached(state_->handle, path);
  // As an URI with every reserved byte escaped.
  std::string uri = "file:";
  for (const char c : std::filesystem::absolute(path).string()) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '-' ||
                       c == '_' || c == '.';
    uri += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned>(c) & 0xff);
  }
  // SQLite attaches and lets go of files only between transactions.
  execute("COMMIT");
  execute(fmt::format("ATTACH DATABASE ? AS {}", name), {uri + "?mode=ro&immutable=1"});
  execute("PRAGMA ignore_check_constraints = OFF");  // what comes from there may be anything
  execute("BEGIN");
}

void TraceDb::detach(const std::string& name) {
  execute("COMMIT");
  execute(fmt::format("DETACH DATABASE {}", name));
  execute("BEGIN");
}

void TraceDb::finish() {
  set_meta("finished", "1");
  for (BulkInsert& insert : state_->inserts) insert.finalize();
  state_->repeated.reset();
  state_->run("COMMIT");
  // The exclusive lock lasts until the next read in normal mode (SQLite manual, locking_mode).
  state_->run("PRAGMA locking_mode = NORMAL; SELECT COUNT(*) FROM meta");
  state_->producing = false;
}

}  // namespace preserve
