// SPDX-License-Identifier: Apache-2.0
// trace.db: the file between the stages. A producer creates it, adds rows in bulk and finishes it
// once; everybody else opens it read-only and asks in SQL (schema.sql, views.sql). Errors are
// input_error naming the file.
//
// Speed: one transaction, prepared statements, no journal, because the file is built under a
// temporary name (OutputFile) and is worthless until finish().
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "common/stats.h"
#include "db/ids.h"

struct sqlite3_stmt;

namespace preserve {

inline constexpr int kTraceSchemaVersion = 1;

enum class OpKind { compute, collective, p2p, copy, other };
enum class StreamKind { thread, async, gpu };
enum class RangeKind { push_pop, start_end, mark };
enum class TensorRole { weight, kv, activation, comm, unknown };
enum class AccessMode { read, write };
enum class StepPhase { decode, prefill, unknown };
const char* to_text(OpKind kind);
const char* to_text(StreamKind kind);
const char* to_text(RangeKind kind);
const char* to_text(TensorRole role);
const char* to_text(AccessMode mode);
const char* to_text(StepPhase phase);

// Rows as they are added; the meaning of each field is in schema.sql.
struct ProcessRow {
  std::string host;
  int64_t pid = 0;
  std::optional<int64_t> ppid{}, rank{}, world_size{};
  std::string command{};
  int64_t start_ns = 0, end_ns = 0;
  bool complete = true;
};
struct DeviceRow {
  std::string host, kind, name;
  std::optional<int64_t> cache_bytes{}, memory_bytes{}, memory_bandwidth_bytes_per_s{}, units{};
};
struct StreamRow {
  ProcessId process;
  DeviceId device{};
  StreamKind kind = StreamKind::thread;
  int64_t native_id = 0;
  std::string name{};
};
struct RangeRow {
  StreamId stream;
  RangeId parent{};
  RangeKind kind = RangeKind::push_pop;
  StringId domain{};
  StringId name;
  int64_t depth = 0;
  int64_t start_ns = 0;
  std::optional<int64_t> end_ns{};
  std::string_view payload{};  // JSON, empty for none
};
struct OpRow {
  StreamId stream;
  OpKind kind = OpKind::other;
  StringId name;
  int64_t start_ns = 0, end_ns = 0;
  std::optional<int64_t> correlation_id{}, graph_id{}, graph_node_id{};
  RangeId range{};
  StepId step{};
};
struct CollectiveRow {
  OpId op;
  std::string_view function;
  std::optional<int64_t> bytes{};
  std::string_view dtype{};  // empty: unknown
  std::optional<int64_t> ranks{}, communicator{}, sequence{}, peer{};
  bool blocking = true;
  std::string_view source;
  double confidence = 1;
};
struct TensorRow {
  ProcessId process;
  StringId name;
  TensorRole role = TensorRole::unknown;
  std::optional<int64_t> base{};
  int64_t bytes = 0;
  std::string_view source;
  std::optional<int64_t> valid_from_ns{}, valid_to_ns{};
};
struct AccessRow {
  OpId op;
  int64_t operand = 0;
  TensorId tensor;
  int64_t offset_bytes = 0, bytes = 0;
  AccessMode mode = AccessMode::read;
  std::string_view source;
  double confidence = 1;
};
struct GemmRow {
  OpId op;
  int64_t m = 0, n = 0, k = 0;
  std::string_view dtype{};  // empty: unknown
  std::string_view source;
};
struct StepRow {
  ProcessId process;
  int64_t ordinal = 0;
  StepPhase phase = StepPhase::unknown;
  int64_t start_ns = 0, end_ns = 0;
  std::string_view source;
};

// One running SELECT. Columns are read by position, after next() returned true.
class Query {
 public:
  bool next();
  bool is_null(int column) const;
  bool is_number(int column) const;
  int64_t integer(int column) const;
  double real(int column) const;
  std::string_view text(int column) const;  // valid until the following next()
  std::optional<int64_t> optional_integer(int column) const;
  // These throw input_error, naming the file, for a value that the schema does not allow.
  int64_t size(int column) const;  // in bytes, not negative
  OpKind op_kind(int column) const;
  Verdict verdict(int column) const;
  TensorRole tensor_role(int column) const;
  AccessMode access_mode(int column) const;
  const std::string& file() const { return *file_; }

 private:
  friend class TraceDb;
  Query(std::shared_ptr<sqlite3_stmt> statement, const std::string* file)
      : statement_(std::move(statement)), file_(file) {}
  std::shared_ptr<sqlite3_stmt> statement_;
  const std::string* file_;
};

using SqlValue = std::variant<std::nullptr_t, int64_t, double, std::string>;

class TraceDb {
 public:
  // New file at `path` (usually OutputFile::temporary_path(); ":memory:" for none at all), schema
  // in place, ready for add().
  static TraceDb create(const std::filesystem::path& path);
  // Existing file, read-only, immutable for this process. Refuses a newer schema (naming both
  // versions), a truncated, foreign or corrupt file.
  static TraceDb open(const std::filesystem::path& path);

  // Existing file of the present schema that grows while it is in use (grid.db): complete at every
  // moment, changed by execute() within transaction() alone, by one writer (input_error else),
  // read by others meanwhile. Until it is closed, PATH-wal beside it has what came last.
  static TraceDb append(const std::filesystem::path& path);

  TraceDb(TraceDb&&) noexcept;
  TraceDb& operator=(TraceDb&&) noexcept;
  ~TraceDb();

  const std::string& file() const;  // for messages

  // --- producing ---
  StringId intern(std::string_view text);  // invalid UTF-8 is replaced, NUL ends the text
  ProcessId add(const ProcessRow& row);
  DeviceId add(const DeviceRow& row);
  StreamId add(const StreamRow& row);
  RangeId add(const RangeRow& row);
  OpId add(const OpRow& row);
  OpId next_op() const;  // what the next one will be
  void add(const CollectiveRow& row);
  TensorId add(const TensorRow& row);
  void add(const AccessRow& row);
  void add(const GemmRow& row);
  StepId add(const StepRow& row);
  void add_env(ProcessId process, std::string_view name, std::string_view value);
  void add_counter(OpId op, std::string_view metric, double value);
  void add_loss(ProcessId process, std::string_view source, std::string_view kind, int64_t count);
  void set_meta(std::string_view key, std::string_view value);
  // Any other statement, with ? parameters, while producing. The CHECKs of a new file's tables are
  // not run, but where another file is attached.
  void execute(const std::string& sql, std::initializer_list<SqlValue> parameters = {}) {
    execute(sql, std::span(parameters.begin(), parameters.size()));
  }
  void execute(const std::string& sql, std::span<const SqlValue> parameters);
  // A foreign file, read-only, under `name` beside this one ("main") until detach().
  void attach(const std::filesystem::path& path, const std::string& name);
  void detach(const std::string& name);
  // After append(): all of `changes` is there, or none; on the disk with the next one after 0.5 s.
  void transaction(const std::function<void()>& changes);
  // Ends the transaction; the file is complete afterwards and add() must not be called again.
  void finish();

  // --- asking ---
  Query query(const std::string& sql, std::initializer_list<SqlValue> parameters = {}) const;
  // First column of the first row; nothing when there is no row or it is NULL.
  std::optional<int64_t> query_integer(const std::string& sql,
                                       std::initializer_list<SqlValue> parameters = {}) const;
  std::string meta(std::string_view key) const;  // empty when absent

 private:
  struct State;
  static TraceDb checked(const std::filesystem::path& path, int flags);
  explicit TraceDb(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace preserve
