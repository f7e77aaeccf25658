// SPDX-License-Identifier: Apache-2.0
#include "db/trace_db.h"

#include <sqlite3.h>

#include <array>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "common/error.h"
#include "db/bulk_insert.h"
#include "db/migration.h"
#include "db/utf8.h"

namespace preserve {

extern const std::string_view kSchemaSql;   // db/schema.sql
extern const std::string_view kSchema2Sql;  // db/schema_2.sql
extern const std::string_view kViewsSql;    // db/views.sql

namespace {

constexpr size_t kNameCacheLimit = 200'000;  // names held in memory while producing
constexpr int kPatienceMs = 10'000;          // for a file that somebody else is changing or reading
constexpr int kApplicationId = 0x50525356;   // "PRSV", read by file(1)

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

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

}  // namespace

namespace {

void bind_all(sqlite3_stmt* statement, std::initializer_list<SqlValue> parameters) {
  int position = 0;
  for (const SqlValue& value : parameters) {
    ++position;
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      sqlite3_bind_int64(statement, position, *integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
      sqlite3_bind_double(statement, position, *real);
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      sqlite3_bind_text(statement, position, text->data(), static_cast<int>(text->size()),
                        SQLITE_TRANSIENT);
    } else {
      sqlite3_bind_null(statement, position);
    }
  }
}

}  // namespace

namespace {

// "'op','range',...": what the schema creates.
std::string table_names_sql() {
  constexpr std::string_view kCreate = "CREATE TABLE ";
  std::string names;
  for (const std::string_view schema : {kSchemaSql, kSchema2Sql}) {
    for (size_t at = schema.find(kCreate); at != std::string_view::npos;
         at = schema.find(kCreate, at)) {
      at += kCreate.size();
      names += fmt::format("{}'{}'", names.empty() ? "" : ",",
                           schema.substr(at, schema.find(' ', at) - at));
    }
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

}  // namespace

struct TraceDb::State {
  std::string file;
  sqlite3* handle = nullptr;
  bool producing = false;
  bool migrated = false;  // a copy in memory of an older file
  std::array<BulkInsert, kInsertCount> inserts;
  std::array<int64_t, kInsertCount> last_id{};
  std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>> strings;
  bool names_in_table = false;             // `strings` is no longer all there is
  std::shared_ptr<sqlite3_stmt> repeated;  // the last statement that execute() ran
  std::string repeated_sql;

  ~State() {
    repeated.reset();
    for (BulkInsert& insert : inserts) insert.finalize();
    sqlite3_close_v2(handle);
  }
  [[noreturn]] void fail(std::string_view doing) const {
    throw input_error("{}: {}: {}", file, doing, sqlite3_errmsg(handle));
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
  BulkInsert& binder(Insert table) { return inserts[table]; }
  void step(Insert table) {
    if (!inserts[table].end_row()) fail("cannot add a row");
  }
  // Whoever asks sees every row that was added.
  void flush() {
    for (BulkInsert& insert : inserts) {
      if (!insert.flush()) fail("cannot add a row");
    }
  }
};

TraceDb::TraceDb(std::unique_ptr<State> state) : state_(std::move(state)) {}
TraceDb::TraceDb(TraceDb&&) noexcept = default;
TraceDb& TraceDb::operator=(TraceDb&&) noexcept = default;
TraceDb::~TraceDb() = default;
const std::string& TraceDb::file() const {
  return state_->file;
}

TraceDb TraceDb::create(const std::filesystem::path& path) {
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
      "PRAGMA foreign_keys = OFF;");  // add() hands out the ids; checking each row costs too much
  state->run(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}; BEGIN",
                         kApplicationId, kTraceSchemaVersion)
                 .c_str());
  state->run(std::string(kSchemaSql).c_str());
  state->run(std::string(kSchema2Sql).c_str());
  state->run(std::string(kViewsSql).c_str());
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
  if (db.state_->migrated) {
    throw input_error("{}: was made by an older preserve and cannot grow: start a new file",
                      db.file());
  }
  // A foreign file gets no code of its own run when rows are changed.
  sqlite3_db_config(db.state_->handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  db.state_->run("PRAGMA synchronous = FULL");
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
  if (sqlite3_open_v2(path.c_str(), &state->handle, flags, nullptr) != SQLITE_OK) {
    state->fail("cannot open");
  }
  sqlite3_busy_timeout(state->handle, kPatienceMs);
  // Views of a foreign file get no functions with side effects.
  sqlite3_db_config(state->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  TraceDb db(std::move(state));
  const char* doing = "is not a readable trace database (damaged or not SQLite)";
  try {
    if (db.query_integer("PRAGMA application_id").value_or(0) != kApplicationId) {
      throw input_error("{}: is a database of another program, not a preserve trace", db.file());
    }
    const int64_t version = db.query_integer("PRAGMA user_version").value_or(0);
    if (version > kTraceSchemaVersion) {
      throw input_error(
          "{}: has trace schema {}, this program knows up to {}: use a newer preserve", db.file(),
          version, kTraceSchemaVersion);
    }
    if (version < 1)
      throw input_error("{}: has no trace schema version: it is unfinished", db.file());
    // What is asked for as a table must be one: a view may compute for ever.
    if (const auto odd = db.query_integer(fmt::format(
            "SELECT count(*) FROM sqlite_master WHERE name IN ({}) AND (type <> 'table' OR "
            "sql LIKE 'CREATE VIRTUAL%')",
            table_names_sql()));
        odd.value_or(0) > 0) {
      throw input_error("{}: has views where tables should be: no preserve tool wrote it",
                        db.file());
    }
    // A truncated file opens well; compare the header's page count with the size on disk.
    const int64_t pages = db.query_integer("PRAGMA page_count").value_or(0);
    const int64_t page_bytes = db.query_integer("PRAGMA page_size").value_or(0);
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
    if (size < pages * page_bytes) {
      throw input_error("{}: is truncated: {} of {} bytes are there", db.file(), size,
                        pages * page_bytes);
    }
    if (db.meta("finished") != "1") {
      throw input_error("{}: was never finished by the tool that wrote it", db.file());
    }
    if (version < kTraceSchemaVersion) {
      sqlite3* old = std::exchange(db.state_->handle, nullptr);  // closed by migrated_copy
      db.state_->handle = migrated_copy(old, version, trace_migrations(), db.file());
      db.state_->migrated = true;
    }
    db.state_->run(temporary_views_sql().c_str());
  } catch (const Error& e) {
    if (db.state_->handle == nullptr) throw;
    const int code = sqlite3_errcode(db.state_->handle);
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT || code == SQLITE_IOERR) {
      throw input_error("{}: {}", db.file(), doing);
    }
    if (code == SQLITE_READONLY) {
      throw input_error(
          "{}: its writer was ended in the middle of a change: run that command again, it undoes "
          "what is half done",
          db.file());
    }
    throw;
  }
  return db;
}

StringId TraceDb::intern(std::string_view text) {
  text = text.substr(0, text.find('\0'));
  if (const auto found = state_->strings.find(text); found != state_->strings.end()) {
    return {found->second};
  }
  const std::string repaired = valid_utf8(text);
  // A recording with millions of different names must not hold them all in memory: the map starts
  // afresh, and from then on a name that is not in it may still be in the table.
  if (state_->strings.size() == kNameCacheLimit) {
    if (!state_->names_in_table) {
      execute("CREATE INDEX string_by_value ON string (value)");
      state_->names_in_table = true;
    }
    state_->strings.clear();
  }
  int64_t id = 0;
  if (state_->names_in_table) {
    id = query_integer("SELECT id FROM string WHERE value = ?", {repaired}).value_or(0);
  }
  if (id == 0) {
    id = ++state_->last_id[kString];
    state_->binder(kString).integer(id).text(repaired);
    state_->step(kString);
  }
  // Under the original bytes, so that a repeated bad name is looked up only once.
  state_->strings.emplace(std::string(text), id);
  return {id};
}

ProcessId TraceDb::add(const ProcessRow& row) {
  const int64_t id = ++state_->last_id[kProcess];
  const std::string host = valid_utf8(row.host), command = valid_utf8(row.command);
  state_->binder(kProcess)
      .integer(id)
      .text(host)
      .integer(row.pid)
      .integer(row.ppid)
      .integer(row.rank)
      .integer(row.world_size)
      .text(command)
      .integer(row.start_ns)
      .integer(row.end_ns)
      .integer(row.complete ? 1 : 0);
  state_->step(kProcess);
  return {id};
}

DeviceId TraceDb::add(const DeviceRow& row) {
  const int64_t id = ++state_->last_id[kDevice];
  const std::string name = valid_utf8(row.name);
  state_->binder(kDevice)
      .integer(id)
      .text(row.host)
      .text(row.kind)
      .text(name)
      .integer(row.cache_bytes)
      .integer(row.memory_bytes)
      .integer(row.memory_bandwidth_bytes_per_s)
      .integer(row.units);
  state_->step(kDevice);
  return {id};
}

StreamId TraceDb::add(const StreamRow& row) {
  const int64_t id = ++state_->last_id[kStream];
  const std::string name = valid_utf8(row.name);
  state_->binder(kStream)
      .integer(id)
      .id(row.process)
      .id(row.device)
      .text(to_text(row.kind))
      .integer(row.native_id)
      .text_or_null(name);
  state_->step(kStream);
  return {id};
}

RangeId TraceDb::add(const RangeRow& row) {
  const int64_t id = ++state_->last_id[kRange];
  state_->binder(kRange)
      .integer(id)
      .id(row.stream)
      .id(row.parent)
      .text(to_text(row.kind))
      .id(row.domain)
      .id(row.name)
      .integer(row.depth)
      .integer(row.start_ns)
      .integer(row.end_ns)
      .text_or_null(row.payload);
  state_->step(kRange);
  return {id};
}

OpId TraceDb::add(const OpRow& row) {
  if (row.end_ns < row.start_ns) {
    throw internal_error("{}: an operator ends {} ns before it starts", file(),
                         row.start_ns - row.end_ns);
  }
  const int64_t id = ++state_->last_id[kOp];
  state_->binder(kOp)
      .integer(id)
      .id(row.stream)
      .text(to_text(row.kind))
      .id(row.name)
      .integer(row.start_ns)
      .integer(row.end_ns)
      .integer(row.correlation_id)
      .integer(row.graph_id)
      .integer(row.graph_node_id)
      .id(row.range)
      .id(row.step);
  state_->step(kOp);
  return {id};
}

void TraceDb::add(const CollectiveRow& row) {
  state_->binder(kCollective)
      .id(row.op)
      .text(row.function)
      .integer(row.bytes)
      .text_or_null(row.dtype)
      .integer(row.ranks)
      .integer(row.communicator)
      .integer(row.sequence)
      .integer(row.peer)
      .integer(row.blocking ? 1 : 0)
      .text(row.source)
      .real(row.confidence);
  state_->step(kCollective);
}

TensorId TraceDb::add(const TensorRow& row) {
  const int64_t id = ++state_->last_id[kTensor];
  state_->binder(kTensor)
      .integer(id)
      .id(row.process)
      .id(row.name)
      .text(to_text(row.role))
      .integer(row.base)
      .integer(row.bytes)
      .text(row.source)
      .integer(row.valid_from_ns)
      .integer(row.valid_to_ns);
  state_->step(kTensor);
  return {id};
}

void TraceDb::add(const AccessRow& row) {
  state_->binder(kAccess)
      .id(row.op)
      .integer(row.operand)
      .id(row.tensor)
      .integer(row.offset_bytes)
      .integer(row.bytes)
      .text(to_text(row.mode))
      .text(row.source)
      .real(row.confidence);
  state_->step(kAccess);
}

void TraceDb::add(const GemmRow& row) {
  state_->binder(kGemm)
      .id(row.op)
      .integer(row.m)
      .integer(row.n)
      .integer(row.k)
      .text_or_null(row.dtype)
      .text(row.source);
  state_->step(kGemm);
}

StepId TraceDb::add(const StepRow& row) {
  const int64_t id = ++state_->last_id[kStep];
  state_->binder(kStep)
      .integer(id)
      .id(row.process)
      .integer(row.ordinal)
      .text(to_text(row.phase))
      .integer(row.start_ns)
      .integer(row.end_ns)
      .text(row.source);
  state_->step(kStep);
  return {id};
}

ArmId TraceDb::add_arm(std::string_view name) {
  execute("INSERT INTO arm (name) VALUES (?)", {std::string(name)});
  return {sqlite3_last_insert_rowid(state_->handle)};
}

void TraceDb::add_env(ProcessId process, std::string_view name, std::string_view value) {
  execute("INSERT OR REPLACE INTO env VALUES (?,?,?)",
          {process.value, valid_utf8(name), valid_utf8(value)});
}

void TraceDb::add_counter(OpId op, std::string_view metric, double value) {
  state_->binder(kCounter).id(op).text(metric).real(value);
  state_->step(kCounter);
}

void TraceDb::add_loss(ProcessId process, std::string_view source, std::string_view kind,
                       int64_t count) {
  SqlValue owner = nullptr;
  if (process) owner = process.value;
  execute("INSERT INTO loss VALUES (?,?,?,?)",
          {owner, std::string(source), std::string(kind), count});
}

void TraceDb::set_meta(std::string_view key, std::string_view value) {
  execute("INSERT OR REPLACE INTO meta VALUES (?,?)", {std::string(key), valid_utf8(value)});
}

void TraceDb::execute(const std::string& sql, std::initializer_list<SqlValue> parameters) {
  if (!state_->producing) throw internal_error("{}: a finished trace is not changed", file());
  state_->flush();
  // Producers repeat one UPDATE for many rows: preparing it anew costs more than running it.
  if (!state_->repeated || state_->repeated_sql != sql) {
    state_->repeated = state_->prepare(sql);
    state_->repeated_sql = sql;
  }
  bind_all(state_->repeated.get(), parameters);
  Query statement(state_->repeated, &state_->file);
  while (statement.next()) {
  }
  sqlite3_reset(state_->repeated.get());
}

void TraceDb::transaction(const std::function<void()>& changes) {
  state_->run("BEGIN IMMEDIATE");
  try {
    changes();
    state_->run("COMMIT");
  } catch (...) {
    sqlite3_exec(state_->handle, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

void TraceDb::finish() {
  set_meta("finished", "1");
  // The two look-ups that every stage makes; built once here, after the bulk, because maintaining
  // them row by row costs more than everything else together.
  state_->run(
      "CREATE INDEX op_by_step ON op (step_id) WHERE step_id IS NOT NULL;"
      "CREATE INDEX tensor_by_process ON tensor (process_id)");
  for (BulkInsert& insert : state_->inserts) insert.finalize();
  state_->repeated.reset();
  state_->run("COMMIT");
  // The exclusive lock lasts until the next read in normal mode (SQLite manual, locking_mode).
  state_->run("PRAGMA locking_mode = NORMAL; SELECT COUNT(*) FROM meta");
  state_->producing = false;
}

Query TraceDb::query(const std::string& sql, std::initializer_list<SqlValue> parameters) const {
  if (state_->producing) state_->flush();
  std::shared_ptr<sqlite3_stmt> statement = state_->prepare(sql);
  bind_all(statement.get(), parameters);
  return {std::move(statement), &state_->file};
}

std::optional<int64_t> TraceDb::query_integer(const std::string& sql,
                                              std::initializer_list<SqlValue> parameters) const {
  Query rows = query(sql, parameters);
  if (!rows.next()) return std::nullopt;
  return rows.optional_integer(0);
}

std::string TraceDb::meta(std::string_view key) const {
  Query rows = query("SELECT value FROM meta WHERE key = ?", {std::string(key)});
  return rows.next() ? std::string(rows.text(0)) : std::string();
}

bool Query::next() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  throw input_error("{}: cannot read: {}", *file_,
                    sqlite3_errmsg(sqlite3_db_handle(statement_.get())));
}
bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}
int64_t Query::size(int column) const {
  const int64_t value = integer(column);
  if (value < 0) throw input_error("{}: is damaged: a size of {} bytes", *file_, value);
  return value;
}
int64_t Query::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}
double Query::real(int column) const {
  return sqlite3_column_double(statement_.get(), column);
}
std::string_view Query::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (data == nullptr) return {};
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}
std::optional<int64_t> Query::optional_integer(int column) const {
  if (is_null(column)) return std::nullopt;
  return integer(column);
}

}  // namespace preserve
