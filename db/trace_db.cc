// SPDX-License-Identifier: Apache-2.0
// Rows and queries of a trace; files: trace_db_open.cc.
#include "db/trace_db.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "common/clock.h"
#include "db/trace_db_state.h"
#include "db/utf8.h"

namespace preserve {
namespace {

constexpr size_t kNameCacheLimit = 200'000;  // names held in memory while producing

void bind_all(sqlite3_stmt* statement, std::span<const SqlValue> parameters) {
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

TraceDb::TraceDb(std::unique_ptr<State> state) : state_(std::move(state)) {}
TraceDb::TraceDb(TraceDb&&) noexcept = default;
TraceDb& TraceDb::operator=(TraceDb&&) noexcept = default;
TraceDb::~TraceDb() = default;
const std::string& TraceDb::file() const {
  return state_->file;
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
  state_->require(row.kind == "cpu" || row.kind == "gpu", "a device of no known kind");
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
      .word(to_text(row.kind))
      .integer(row.native_id)
      .text_or_null(name);
  state_->step(kStream);
  return {id};
}

RangeId TraceDb::add(const RangeRow& row) {
  const int64_t id = ++state_->last_id[kRange];
  state_->binder(kRange)
      .null()  // SQLite numbers on as last_id does, and need not look whether a number is taken
      .id(row.stream)
      .id(row.parent)
      .word(to_text(row.kind))
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
      .null()  // as of ranges
      .id(row.stream)
      .word(to_text(row.kind))
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

OpId TraceDb::next_op() const {
  return {state_->last_id[kOp] + 1};
}

void TraceDb::add(const CollectiveRow& row) {
  state_->require(row.confidence >= 0 && row.confidence <= 1, "a confidence beyond 0 to 1");
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
  state_->require(row.bytes >= 0, "a negative size");
  const int64_t id = ++state_->last_id[kTensor];
  state_->binder(kTensor)
      .integer(id)
      .id(row.process)
      .id(row.name)
      .word(to_text(row.role))
      .integer(row.base)
      .integer(row.bytes)
      .text(row.source)
      .integer(row.valid_from_ns)
      .integer(row.valid_to_ns);
  state_->step(kTensor);
  return {id};
}

void TraceDb::add(const AccessRow& row) {
  state_->require(row.offset_bytes >= 0 && row.bytes >= 0, "a negative size");
  state_->require(row.confidence >= 0 && row.confidence <= 1, "a confidence beyond 0 to 1");
  state_->binder(kAccess)
      .id(row.op)
      .integer(row.operand)
      .id(row.tensor)
      .integer(row.offset_bytes)
      .integer(row.bytes)
      .word(to_text(row.mode))
      .text(row.source)
      .real(row.confidence);
  state_->step(kAccess);
}

void TraceDb::add(const GemmRow& row) {
  state_->require(row.m > 0 && row.n > 0 && row.k > 0, "an empty product");
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
  constexpr std::string_view kSources[] = {"nvtx", "detected", "counted", "replay", "model"};
  state_->require(
      std::find(std::begin(kSources), std::end(kSources), row.source) != std::end(kSources),
      "a step of no known source");
  const int64_t id = ++state_->last_id[kStep];
  state_->binder(kStep)
      .integer(id)
      .id(row.process)
      .integer(row.ordinal)
      .word(to_text(row.phase))
      .integer(row.start_ns)
      .integer(row.end_ns)
      .text(row.source);
  state_->step(kStep);
  return {id};
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

void TraceDb::execute(const std::string& sql, std::span<const SqlValue> parameters) {
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

// A transaction waits for the disk twice with a rollback journal, for tens of milliseconds; with a
// write-ahead log it need not. Where a file system can have none, SQLite keeps the journal.
void TraceDb::State::begin_to_grow() {
  // Of two commands that fill one file each would do the work of both.
  if (writer < 0) writer = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (writer >= 0 && ::flock(writer, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw input_error(
        "{}: another command is filling it: wait until that has ended, or name another output",
        file);
  }
  const std::shared_ptr<sqlite3_stmt> mode = prepare("PRAGMA journal_mode = WAL");
  if (sqlite3_step(mode.get()) != SQLITE_ROW) fail("cannot write");
  const auto* name = reinterpret_cast<const char*>(sqlite3_column_text(mode.get(), 0));
  const bool log = name != nullptr && std::string_view(name) == "wal";
  sqlite3_reset(mode.get());
  run(log ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL");
  growing = true;
}

void TraceDb::transaction(const std::function<void()>& changes) {
  if (!state_->growing) state_->begin_to_grow();  // not before: append() may have been a mistake
  state_->run("BEGIN IMMEDIATE");
  try {
    changes();
    state_->run("COMMIT");
  } catch (...) {
    sqlite3_exec(state_->handle, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
  // Waiting for the disk each time would make a thousand short transactions last a minute. A loss
  // of power undoes the last of them, as many as fit into the interval, and damages nothing.
  constexpr int64_t kIntervalNs = 500'000'000;
  const int64_t now_ns = monotonic_ns();
  if (now_ns - state_->synced_ns < kIntervalNs) return;
  const int code = sqlite3_wal_checkpoint_v2(state_->handle, nullptr, SQLITE_CHECKPOINT_PASSIVE,
                                             nullptr, nullptr);
  if (code == SQLITE_BUSY) return;  // somebody else is doing it
  if (code != SQLITE_OK) state_->fail("cannot write");
  state_->synced_ns = monotonic_ns();
  const int64_t pages = query_integer("PRAGMA page_count").value_or(0);
  state_->distrust.grown_to(pages * query_integer("PRAGMA page_size").value_or(0));
}

Query TraceDb::query(const std::string& sql, std::initializer_list<SqlValue> parameters) const {
  if (state_->producing) state_->flush();
  std::shared_ptr<sqlite3_stmt> statement = state_->prepare(sql);
  bind_all(statement.get(), {parameters.begin(), parameters.size()});
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
                    sqlite_error(sqlite3_db_handle(statement_.get())));
}
bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}
bool Query::is_number(int column) const {
  const int type = sqlite3_column_type(statement_.get(), column);
  return type == SQLITE_INTEGER || type == SQLITE_FLOAT;
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
