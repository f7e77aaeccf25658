// SPDX-License-Identifier: Apache-2.0
#include "profiler/files/merge.h"
#include "common/text.h"

#include <map>

#include "common/error.h"
#include "common/output_file.h"
#include "db/losses.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "db/trace_db.h"
#include "profiler/clocks/hosts.h"

namespace preserve {

namespace {

// A table and how its columns change: + gets the offset of the table named after it, $ is a
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
    {"gemm", "+op:op_id, m, n, k, dtype, source"},
    {"step", "+step:id, +process:process_id, ordinal, phase, start_ns, end_ns, source"},
    {"quality",
     "+process:process_id, steps, steps_used, interrupted, step_ns, step_mad_ns, explained_ns, "
     "repeating_ns, varying"},
    {"clock",
     "+process:process_id, source, readings, offset_ns, drift, error_ns, residual_ns, "
     "left_early_ns"},
    {"loss", "+process:process_id, source, kind, count"},
};

// Why a file that opened well cannot be read to its end; empty when it can.
std::string damage(const std::string& file) {
  try {
    const TraceDb part = TraceDb::open(file);
    Query pages = part.query("PRAGMA quick_check(1)");
    if (pages.next() && pages.text(0) != "ok") return std::string(pages.text(0));
    Query references = part.query("PRAGMA foreign_key_check");
    if (references.next()) {
      return fmt::format("a row of {} refers to a missing row of {}", references.text(0),
                         references.text(2));
    }
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

class Merger {
 public:
  explicit Merger(TraceDb& db) : db_(db) {}

  void add(const std::string& file) {
    check(file);
    const int64_t before = offsets_["process"];
    db_.attach(file, "part");
    db_.execute("CREATE TEMP TABLE string_map (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)");
    map_strings();
    for (const Copy& copy : kCopies) {
      // The file itself is attached: one of an older schema lacks the tables that came later.
      if (db_.query_integer("SELECT 1 FROM part.sqlite_master WHERE type = 'table' AND name = ?",
                            {std::string(copy.table)})) {
        copy_table(copy);
      }
    }
    note_clocks(file, before);
    for (auto& [table, offset] : offsets_) {
      offset = db_.query_integer("SELECT MAX(id) FROM main." + table).value_or(0);
    }
    db_.execute("DROP TABLE string_map");
    db_.detach("part");
  }

  // Recordings of single ranks could not know how many GPUs the ranks before them have: of a
  // process on several, only the first row has its rank.
  void count_gpus_as_ranks() {
    std::map<std::string, int64_t> ranks;
    std::map<int64_t, std::vector<int64_t>> gpus;  // processes of a rank
    int64_t world_size = 0, processes = 0;
    {
      Query rows =
          db_.query("SELECT host, pid, start_ns, id, rank, world_size FROM process ORDER BY id");
      while (rows.next()) {
        auto rank = rows.optional_integer(4);
        const std::string key = key_of(rows);
        if (rank) {
          ranks.emplace(key, *rank);
        } else if (const auto first = ranks.find(key); first != ranks.end()) {
          rank = first->second;
        }
        if (!rank) continue;
        gpus[*rank].push_back(rows.integer(3));
        world_size = std::max(world_size, rows.optional_integer(5).value_or(0));
        ++processes;
      }
    }
    const auto ranks_present = static_cast<int64_t>(gpus.size());
    if (processes == ranks_present || ranks_present != world_size || gpus.begin()->first != 0 ||
        gpus.rbegin()->first != world_size - 1) {
      return;
    }
    int64_t next = 0;
    for (const auto& [rank, rows] : gpus) {
      for (const int64_t id : rows) {
        db_.execute("UPDATE process SET rank = ?, world_size = ? WHERE id = ?",
                    {next++, processes, id});
      }
    }
  }

  // Each file has one clock, and those of one host have the same, unless collectives say otherwise.
  void align_clocks(Console& console) {
    const clocks::Outcome outcome = clocks::to_one_clock(db_, processes_of_clocks_);
    if (!outcome.apart.empty()) {
      throw input_error(
          "{}: has no collective in common with the ranks of the hosts before it, so that nothing "
          "says how far apart their clocks are: tune the trace of each host by itself, or record "
          "all of them with preserve-profile before the launcher",
          printable(fmt::format("{}", fmt::join(outcome.apart, ", "))));
    }
    for (const std::string& note : outcome.notes) console.info(note);
    for (const std::string& warning : outcome.warnings) console.warn(warning);
  }

  // One host has one processor, however many of its ranks were recorded by themselves.
  void join_processors() {
    db_.execute(
        "UPDATE stream SET device_id = (SELECT MIN(first.id) FROM device JOIN device AS first "
        "ON first.host = device.host AND first.kind = device.kind WHERE device.id = device_id) "
        "WHERE device_id IN (SELECT id FROM device WHERE kind = 'cpu')");
    db_.execute(
        "DELETE FROM device WHERE kind = 'cpu' AND "
        "id NOT IN (SELECT MIN(id) FROM device WHERE kind = 'cpu' GROUP BY host)");
  }

  bool complete() const { return complete_; }
  // What all inputs counted; empty: they are recordings of times.
  std::string counters() const { return counters_.value_or(""); }
  // Of the first that has one.
  const std::string& mpi_library() const { return mpi_library_; }
  const std::string& pages() const { return pages_; }

 private:
  // Opening it as a trace refuses foreign, truncated and newer files with a clear message.
  void check(const std::string& file) {
    const TraceDb part = TraceDb::open(file);
    const std::string kind = part.meta("kind");
    if (kind == "replay" || kind == "grid") {
      throw input_error("{}: is a {} and no recording: merge recordings only", file, kind);
    }
    complete_ = complete_ && part.meta("incomplete") != "1";
    if (mpi_library_.empty()) mpi_library_ = part.meta("mpi_library");
    if (pages_.empty()) pages_ = part.meta("pages");
    check_counters(part);
    check_processes(part);
    for (const char* table : {"process", "step", "op", "range"}) {
      const auto row = part.query_integer(
          fmt::format("SELECT id FROM {} WHERE end_ns < start_ns LIMIT 1", table));
      if (row) throw input_error("{}: row {} of {} ends before it begins", file, *row, table);
    }
  }

  // Times of kernels that ran one by one are not to hide among others.
  void check_counters(const TraceDb& part) {
    const std::string counters = part.meta("counters");
    if (!counters_) counters_ = counters;
    if (*counters_ == counters) return;
    const auto kind = [](const std::string& what) {
      return what.empty() ? "without --counters" : "with --counters " + printable(what);
    };
    throw input_error("{}: was recorded {}, the inputs before it {}: merge recordings of one kind",
                      part.file(), kind(counters), kind(*counters_));
  }

  // Of one run of a program: columns host, pid, start_ns.
  static std::string key_of(const Query& row) {
    return fmt::format("{} {} {}", row.text(0), row.integer(1), row.integer(2));
  }

  void check_processes(const TraceDb& part) {
    ++inputs_;
    Query rows = part.query("SELECT host, pid, start_ns, rank FROM process");
    while (rows.next()) {
      // Once per GPU in one input.
      const auto [holder, is_new] = processes_.emplace(key_of(rows), inputs_);
      if (!is_new && holder->second != inputs_) {
        throw input_error("{}: holds process {} which another input holds too: each run only once",
                          part.file(), rows.integer(1));
      }
      const auto rank = rows.optional_integer(3);
      if (!rank) continue;
      const auto [owner, first] = ranks_.emplace(*rank, part.file());
      if (!first) {
        throw input_error("rank {} is in {} and in {} too: merge the ranks of one run only", *rank,
                          owner->second, part.file());
      }
    }
  }

  // After the processes of the file were copied. Several hosts in one file share its clock when
  // something aligned them.
  void note_clocks(const std::string& file, int64_t before) {
    const bool aligned =
        db_.query_integer("SELECT 1 FROM main.clock WHERE process_id > ?", {before}).has_value();
    Query rows = db_.query("SELECT id, host, end_ns FROM main.process WHERE id > ?", {before});
    while (rows.next()) {
      clocks::Process process{.id = ProcessId{rows.integer(0)}, .host = std::string(rows.text(1))};
      process.clock = aligned ? file : fmt::format("{} of {}", file, printable(process.host));
      process.end_ns = rows.integer(2);
      processes_of_clocks_.push_back(std::move(process));
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
  size_t inputs_ = 0;                        // so far
  std::map<std::string, size_t> processes_;  // and the input of each
  std::vector<clocks::Process> processes_of_clocks_;
  std::map<int64_t, std::string> ranks_;  // and the file of each
  bool complete_ = true;
  std::optional<std::string> counters_;
  std::string mpi_library_, pages_;
};

void write_merged(const std::vector<std::string>& inputs, const std::filesystem::path& output,
                  Console& console) {
  TraceDb db = TraceDb::create(output);
  Merger merger(db);
  try {
    double done = 0;
    for (const std::string& input : inputs) {
      merger.add(input);
      console.progress("merging", ++done, static_cast<double>(inputs.size()));
    }
    merger.count_gpus_as_ranks();
    merger.align_clocks(console);
    merger.join_processors();
    db.set_meta("incomplete", merger.complete() ? "0" : "1");
    if (!merger.counters().empty()) db.set_meta("counters", merger.counters());
    if (!merger.mpi_library().empty()) db.set_meta("mpi_library", merger.mpi_library());
    if (!merger.pages().empty()) db.set_meta("pages", merger.pages());
    db.finish();
  } catch (const Error& failure) {
    // SQLite names the database that was being written, whichever file it stumbled over.
    if (std::string_view(failure.what()).find(output.string()) == std::string_view::npos) throw;
    for (const std::string& input : inputs) {
      const std::string why = damage(input);
      if (!why.empty()) throw input_error("{}: is damaged: {}", input, printable(why));
    }
    throw;
  }
  console.clear_progress();
}

void report_merged(const TraceDb& merged, size_t inputs, Console& console) {
  for (const std::string& sentence : loss_sentences(merged)) console.warn(sentence);
  if (merged.meta("incomplete") == "1") {
    console.warn("an input is incomplete, so the merged trace is too");
  }
  const std::string missing = missing_ranks(merged);
  if (!missing.empty()) console.warn("no input has rank " + missing);
  const auto rows = [&](const char* table) {
    return merged.query_integer(fmt::format("SELECT COUNT(*) FROM {}", table)).value_or(0);
  };
  // One that was resized has several rows.
  const int64_t tensors =
      merged
          .query_integer(
              "SELECT COUNT(*) FROM (SELECT DISTINCT process_id, name_id, base FROM tensor)")
          .value_or(0);
  console.info(fmt::format(
      "{}: {} with {} processes, {} ranges, {} operators, {} collectives, {} tensors, {} steps",
      merged.file(), count_of(static_cast<int64_t>(inputs), "file"), rows("process"), rows("range"),
      rows("op"), rows("collective"), tensors, rows("step")));
  report_quality(merged, console);
}

}  // namespace

int merge_traces(const std::vector<std::string>& inputs, const std::string& output_name, bool force,
                 Console& console) {
  refuse_input_as_output(output_name, inputs);
  require_file(output_name, "a trace");
  OutputFile output(output_name, force);
  write_merged(inputs, output.temporary_path(), console);
  output.commit();
  const TraceDb merged = TraceDb::open(output.path());
  report_merged(merged, inputs.size(), console);
  console.next(next_command(merged, output.path().string()));
  return kExitDone;
}

}  // namespace preserve
