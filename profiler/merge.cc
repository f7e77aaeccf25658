// SPDX-License-Identifier: Apache-2.0
#include "profiler/merge.h"

#include <filesystem>
#include <map>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "db/trace_db.h"

namespace preserve {
namespace fs = std::filesystem;

namespace {

// A table and how its columns change: + gets the offset of the table named behind it, $ is a
// string. Tables in the order in which a trace refers to them.
struct Copy {
  const char* table;
  const char* columns;
};
constexpr Copy kCopies[] = {
    {"process",
     "+process:id, host, pid, ppid, rank, world_size, command, start_ns, end_ns, complete"},
    {"env", "+process:process_id, name, value"},
    {"device",
     "+device:id, host, kind, name, cache_bytes, memory_bytes, memory_bandwidth_bytes_per_s, "
     "units"},
    {"stream", "+stream:id, +process:process_id, +device:device_id, kind, native_id, name"},
    {"range",
     "+range:id, +stream:stream_id, +range:parent_id, kind, $domain_id, $name_id, depth, "
     "start_ns, end_ns, payload"},
    {"op",
     "+op:id, +stream:stream_id, kind, $name_id, start_ns, end_ns, correlation_id, graph_id, "
     "graph_node_id, +range:range_id, +step:step_id"},
    {"collective",
     "+op:op_id, function, bytes, dtype, ranks, communicator, sequence, peer, blocking, "
     "source, confidence"},
    {"tensor",
     "+tensor:id, +process:process_id, $name_id, role, base, bytes, source, valid_from_ns, "
     "valid_to_ns"},
    {"access",
     "+op:op_id, operand, +tensor:tensor_id, offset_bytes, bytes, mode, source, confidence"},
    {"counter", "+op:op_id, metric, value"},
    {"step", "+step:id, +process:process_id, ordinal, phase, start_ns, end_ns, source"},
    {"loss", "+process:process_id, source, kind, count"},
};

class Merger {
 public:
  explicit Merger(TraceDb& db) : db_(db) {}

  void add(const std::string& file) {
    check(file);
    // SQLite lets go of an attached file only between transactions.
    db_.execute("COMMIT");
    db_.execute("ATTACH DATABASE ? AS part", {file});
    db_.execute("BEGIN");
    db_.execute("CREATE TEMP TABLE string_map (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)");
    map_strings();
    for (const Copy& copy : kCopies) copy_table(copy);
    for (auto& [table, offset] : offsets_) {
      offset = db_.query_integer("SELECT MAX(id) FROM main." + table).value_or(0);
    }
    db_.execute("DROP TABLE string_map");
    db_.execute("COMMIT");
    db_.execute("DETACH DATABASE part");
    db_.execute("BEGIN");
  }

  bool complete() const { return complete_; }
  size_t hosts() const { return hosts_.size(); }

 private:
  // Opening it as a trace refuses foreign, truncated and newer files with a clear message.
  void check(const std::string& file) {
    const TraceDb part = TraceDb::open(file);
    complete_ = complete_ && part.meta("incomplete") != "1";
    Query rows = part.query("SELECT host, pid, start_ns FROM process");
    while (rows.next()) {
      hosts_.insert(std::string(rows.text(0)));
      const auto key = fmt::format("{} {} {}", rows.text(0), rows.integer(1), rows.integer(2));
      if (!processes_.insert(key).second) {
        throw input_error("{}: holds process {} which another input holds too: each run only once",
                          file, rows.integer(1));
      }
    }
  }

  void map_strings() {
    std::vector<std::pair<int64_t, std::string>> strings;
    {
      Query rows = db_.query("SELECT id, value FROM part.string ORDER BY id");
      while (rows.next()) strings.emplace_back(rows.integer(0), rows.text(1));
    }
    for (const auto& [id, value] : strings) {
      db_.execute("INSERT INTO string_map VALUES (?,?)", {id, db_.intern(value).value});
    }
  }

  void copy_table(const Copy& copy) {
    std::string select;
    std::string rest = copy.columns;
    while (!rest.empty()) {
      const size_t comma = std::min(rest.find(", "), rest.size());
      const std::string column = rest.substr(0, comma);
      rest.erase(0, std::min(comma + 2, rest.size()));
      if (!select.empty()) select += ", ";
      if (column[0] == '+') {
        const size_t colon = column.find(':');
        select +=
            fmt::format("{} + {}", column.substr(colon + 1), offsets_[column.substr(1, colon - 1)]);
      } else if (column[0] == '$') {
        select += fmt::format("(SELECT new FROM string_map WHERE old = {})", column.substr(1));
      } else {
        select += column;
      }
    }
    db_.execute(fmt::format("INSERT INTO main.{0} SELECT {1} FROM part.{0}", copy.table, select));
  }

  TraceDb& db_;
  std::map<std::string, int64_t> offsets_{{"process", 0}, {"device", 0}, {"stream", 0},
                                          {"range", 0},   {"op", 0},     {"tensor", 0},
                                          {"step", 0}};
  std::set<std::string> processes_, hosts_;
  bool complete_ = true;
};

}  // namespace

int merge_traces(const std::vector<std::string>& inputs, const std::string& output_name, bool force,
                 Console& console) {
  OutputFile output(output_name, force);
  if (output.is_stdout())
    throw usage_error("a trace is a database and cannot go to standard output");
  std::error_code error;
  for (const std::string& input : inputs) {
    if (fs::equivalent(input, output.path(), error)) {
      throw usage_error("{} is an input and cannot be the output too", input);
    }
  }
  {
    TraceDb db = TraceDb::create(output.temporary_path());
    Merger merger(db);
    double done = 0;
    for (const std::string& input : inputs) {
      merger.add(input);
      console.progress("merging", ++done, static_cast<double>(inputs.size()));
    }
    db.set_meta("incomplete", merger.complete() ? "0" : "1");
    if (merger.hosts() > 1) {
      console.warn("processes of several hosts: their clocks are not aligned");
    }
    if (!merger.complete()) console.warn("an input is incomplete, so the merged trace is too");
    db.finish();
  }
  output.commit();
  console.next("preserve-tune " + output.path().string());
  return kExitDone;
}

}  // namespace preserve
