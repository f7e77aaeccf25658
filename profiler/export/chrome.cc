// SPDX-License-Identifier: Apache-2.0
#include "profiler/export/chrome.h"
#include "common/text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/output_file.h"
#include "db/step/folded_step.h"
#include "profiler/export/json_file.h"

namespace preserve::exporter {
namespace {

// Track numbers: a stream's sub-tracks follow it, the planned prefetches come last.
constexpr int64_t kSubTracks = 100;
constexpr int64_t kPlanTrack = 1'000'000;

std::string json_text(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct PlannedPrefetch {
  int64_t window_ordinal = 0, length_bytes = 0;
  double ns_per_byte = 0;  // of the method: what it fetches in the window's usable time
  std::string tensor, consumer;
};
struct Schedule {
  std::vector<PlannedPrefetch> prefetches;
  std::optional<StepPhase> phase{};  // of a prefill's plan; else as fold_step() chooses
  std::string trace_sha256;
};

Schedule read_schedule(const std::filesystem::path& path) {
  const std::string text = read_text_file(path);
  Schedule schedule;
  try {
    const auto json = nlohmann::json::parse(text);
    if (json.at("schema") != "preserve/schedule") {
      throw input_error("{}: is not a schedule.json (its \"schema\" is another)", path.string());
    }
    if (json.contains("trace")) {
      if (json.at("trace").value("phase", "") == "prefill") schedule.phase = StepPhase::prefill;
      schedule.trace_sha256 = json.at("trace").value("sha256", "");
    }
    for (const auto& window : json.at("windows")) {
      const int64_t capacity_bytes = window.at("capacity_bytes").get<int64_t>();
      const double ns_per_byte = static_cast<double>(window.at("usable_ns").get<int64_t>()) /
                                 static_cast<double>(std::max<int64_t>(1, capacity_bytes));
      for (const auto& prefetch : window.at("prefetches")) {
        schedule.prefetches.push_back({window.at("ordinal").get<int64_t>(),
                                       prefetch.at("length_bytes").get<int64_t>(), ns_per_byte,
                                       prefetch.at("tensor").get<std::string>(),
                                       prefetch.at("consumer").get<std::string>()});
      }
    }
  } catch (const nlohmann::json::exception& error) {
    throw input_error("{}: cannot be read as a schedule: {}", path.string(), error.what());
  }
  return schedule;
}

// Windows are numbers of operators, which mean others in another trace.
void require_same_trace(const Schedule& plan, const std::filesystem::path& schedule,
                        const std::filesystem::path& trace) {
  if (sha256_of_file(trace) == plan.trace_sha256) return;
  throw input_error("{} was made from another trace than {}: plan again with preserve-tune {}",
                    schedule.string(), trace.string(), trace.string());
}

struct ExportSummary {
  int64_t operators = 0, ranges = 0, counters = 0, arrows = 0, prefetches = 0;
};

class ChromeWriter {
 public:
  ChromeWriter(const TraceDb& db, const std::filesystem::path& path, bool compress)
      : db_(db), file_(path, compress) {}

  ExportSummary write(const std::optional<Schedule>& schedule);

 private:
  template <typename... Values>
  void put(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(file_.text()), format, std::forward<Values>(values)...);
  }
  void begin_event() {
    put("{}", first_ ? "\n" : ",\n");
    first_ = false;
  }
  // Time stamps are µs with three digits: exact ns, as Kineto writes them.
  void time(const char* key, int64_t ns) { put(", \"{}\": {}.{:03}", key, ns / 1000, ns % 1000); }
  void slice(std::string_view category, std::string_view name, int64_t process, int64_t track,
             int64_t start_ns, int64_t end_ns) {
    begin_event();
    put(R"({{"ph": "X", "cat": "{}", "name": {}, "pid": {}, "tid": {})", category, json_text(name),
        process, track);
    time("ts", start_ns - base_ns_);
    time("dur", end_ns - start_ns);
  }
  void name_track(const char* what, int64_t process, int64_t track, const std::string& name) {
    begin_event();
    put(R"({{"ph": "M", "name": "{}", "pid": {}, "tid": {}, "ts": 0, "args": {{"name": {}}}}})",
        what, process, track, json_text(name));
  }
  void arrow(bool begin, int64_t id, const char* category, int64_t process, int64_t track,
             int64_t ns) {
    begin_event();
    put(R"({{"ph": "{}", "id": {}, "cat": "{}", "name": "{}", "pid": {}, "tid": {}{})",
        begin ? "s" : "f", id, category, category, process, track, begin ? "" : R"(, "bp": "e")");
    time("ts", ns - base_ns_);
    put("}}");
  }
  void write_processes();
  void write_operators();
  void write_operator(Query& rows, int64_t track);
  void write_ranges();
  void write_counters();
  void write_collective_arrows();
  void write_plan(const Schedule& schedule);
  void write_plan(const Schedule& schedule, const FoldedStep& folded);

  const TraceDb& db_;
  JsonFile file_;
  int64_t base_ns_ = 0;
  bool first_ = true;
  ExportSummary summary_;
};

void ChromeWriter::write_processes() {
  Query rows = db_.query("SELECT id, rank, pid, command FROM process ORDER BY id");
  while (rows.next()) {
    const auto rank = rows.optional_integer(1);
    const std::string who =
        rank ? fmt::format("rank {}", *rank) : fmt::format("pid {}", rows.integer(2));
    name_track("process_name", rows.integer(0), 0, fmt::format("{} {}", who, rows.text(3)));
  }
  Query streams = db_.query("SELECT id, process_id, kind, native_id, name FROM stream ORDER BY id");
  while (streams.next()) {
    const std::string name =
        fmt::format("{} {} {}", streams.text(2) == "gpu" ? "stream" : streams.text(2),
                    streams.integer(3), streams.text(4));
    name_track("thread_name", streams.integer(1), streams.integer(0) * kSubTracks, name);
  }
}

void ChromeWriter::write_operator(Query& rows, int64_t track) {
  const int64_t process = rows.integer(1), start_ns = rows.integer(5);
  const std::string_view kind = rows.text(2);
  const bool gpu = rows.text(3) == "gpu";
  slice(!gpu             ? "host_op"
        : kind == "copy" ? "gpu_memcpy"
                         : "kernel",
        rows.text(4), process, track, start_ns, rows.integer(6));
  put(R"(, "args": {{"kind": "{}")", kind);
  if (gpu) {
    put(R"(, "device": {}, "stream": {})", rows.optional_integer(17).value_or(0), rows.integer(7));
  }
  if (const auto id = rows.optional_integer(8)) {
    put(R"(, "correlation": {})", *id);
  }
  if (const auto id = rows.optional_integer(9)) {
    put(R"(, "graph id": {}, "graph node id": {})", *id, rows.optional_integer(10).value_or(0));
  }
  if (const auto step = rows.optional_integer(11)) {
    put(R"(, "step": {})", *step);
  }
  if (!rows.is_null(12)) {
    put(R"(, "function": {}, "bytes": {}, "ranks": {}, "source": {})", json_text(rows.text(12)),
        rows.is_null(13) ? "null" : std::to_string(rows.integer(13)),
        rows.is_null(14) ? "null" : std::to_string(rows.integer(14)), json_text(rows.text(15)));
  }
  put("}}}}");
}

void ChromeWriter::write_operators() {
  Query rows = db_.query(
      "SELECT op.id, stream.process_id, op.kind, stream.kind, string.value, op.start_ns, "
      "op.end_ns, "
      "       stream.native_id, op.correlation_id, op.graph_id, op.graph_node_id, op.step_id, "
      "       collective.function, collective.bytes, collective.ranks, collective.source, "
      "       op.stream_id, stream.device_id, range.stream_id, range.start_ns "
      "FROM op JOIN stream ON stream.id = op.stream_id JOIN string ON string.id = op.name_id "
      "LEFT JOIN collective ON collective.op_id = op.id LEFT JOIN range ON range.id = op.range_id "
      "ORDER BY op.stream_id, op.start_ns, op.id");
  std::vector<int64_t> ends;  // of the last operator of each sub-track
  int64_t stream = 0;
  while (rows.next()) {
    if (rows.integer(16) != stream) {
      stream = rows.integer(16);
      ends.clear();
    }
    // The lowest sub-track that is free; with all taken, the last one shows the overlap as it can.
    size_t sub = 0;
    while (sub < ends.size() && ends[sub] > rows.integer(5)) ++sub;
    sub = std::min<size_t>(sub, kSubTracks - 1);
    if (sub >= ends.size()) {
      ends.push_back(0);
      if (sub > 0) {
        name_track("thread_name", rows.integer(1), stream * kSubTracks + static_cast<int64_t>(sub),
                   fmt::format("stream {} (overlap {})", rows.integer(7), sub));
      }
    }
    ends[sub] = rows.integer(6);
    const int64_t track = stream * kSubTracks + static_cast<int64_t>(sub);
    write_operator(rows, track);
    ++summary_.operators;
    if (!rows.is_null(18)) {
      arrow(true, rows.integer(0), "launch", rows.integer(1), rows.integer(18) * kSubTracks,
            rows.integer(19));
      arrow(false, rows.integer(0), "launch", rows.integer(1), track, rows.integer(5));
      ++summary_.arrows;
    }
  }
}

void ChromeWriter::write_ranges() {
  const int64_t last_ns = db_.query_integer("SELECT MAX(end_ns) FROM op").value_or(base_ns_);
  Query rows = db_.query(
      "SELECT range.id, stream.process_id, range.stream_id, range.kind, string.value, "
      "range.start_ns, "
      "range.end_ns FROM range JOIN stream ON stream.id = range.stream_id "
      "JOIN string ON string.id = range.name_id ORDER BY range.stream_id, range.start_ns, "
      "range.depth");
  while (rows.next()) {
    const int64_t process = rows.integer(1), track = rows.integer(2) * kSubTracks;
    const int64_t start_ns = rows.integer(5);
    const int64_t end_ns = rows.optional_integer(6).value_or(std::max(start_ns, last_ns));
    ++summary_.ranges;
    if (rows.text(3) == "push_pop") {
      slice("user_annotation", rows.text(4), process, track, start_ns, end_ns);
      put("}}");
      continue;
    }
    // Start/end ranges need not nest: asynchronous slices have their own rows. Marks have no
    // length.
    const bool mark = rows.text(3) == "mark";
    for (const bool begin : {true, false}) {
      if (mark && !begin) break;
      begin_event();
      put(R"({{"ph": "{}", "cat": "range", "name": {}, "id": {}, "pid": {}, "tid": {})",
          mark    ? "i"
          : begin ? "b"
                  : "e",
          json_text(rows.text(4)), rows.integer(0), process, track);
      time("ts", (begin ? start_ns : end_ns) - base_ns_);
      put("}}");
    }
  }
}

// Bytes that operators are known to read, as a rate while they run: where it drops to zero beside a
// collective is where prefetching can work. Hardware counters likewise, as values.
void ChromeWriter::write_counters() {
  const auto value = [&](std::string_view name, int64_t process, int64_t ns, double at) {
    begin_event();
    put(R"({{"ph": "C", "name": {}, "pid": {}, "tid": 0)", json_text(name), process);
    time("ts", ns - base_ns_);
    put(R"(, "args": {{"value": {:.6g}}}}})", at);
    ++summary_.counters;
  };
  Query reads = db_.query(
      "SELECT stream.process_id, op.start_ns, op.end_ns, SUM(access.bytes) FROM access "
      "JOIN op ON op.id = access.op_id JOIN stream ON stream.id = op.stream_id "
      "WHERE access.mode = 'read' AND op.end_ns > op.start_ns GROUP BY op.id ORDER BY op.start_ns");
  while (reads.next()) {
    const double dur_ns = static_cast<double>(reads.integer(2) - reads.integer(1));
    value("known reads GB/s", reads.integer(0), reads.integer(1),
          static_cast<double>(reads.integer(3)) / dur_ns);
    value("known reads GB/s", reads.integer(0), reads.integer(2), 0);
  }
  Query counters = db_.query(
      "SELECT stream.process_id, op.start_ns, op.end_ns, counter.metric, counter.value FROM "
      "counter JOIN op ON op.id = counter.op_id JOIN stream ON stream.id = op.stream_id ORDER BY "
      "op.start_ns");
  while (counters.next()) {
    value(counters.text(3), counters.integer(0), counters.integer(1), counters.real(4));
    value(counters.text(3), counters.integer(0), counters.integer(2), 0);
  }
}

void ChromeWriter::write_collective_arrows() {
  Query rows = db_.query(
      "SELECT collective.communicator, collective.sequence, op.id, stream.process_id, "
      "op.stream_id, "
      "op.start_ns FROM collective JOIN op ON op.id = collective.op_id "
      "JOIN stream ON stream.id = op.stream_id "
      "WHERE collective.communicator IS NOT NULL AND collective.sequence IS NOT NULL "
      "ORDER BY 1, 2, stream.process_id");
  struct End {
    int64_t communicator = 0, sequence = 0, op = 0, process = 0, stream = 0, start_ns = 0;
  };
  std::optional<End> first;
  const int64_t offset = db_.query_integer("SELECT MAX(id) FROM op").value_or(0) + 1;
  while (rows.next()) {
    const End end{rows.integer(0), rows.integer(1), rows.integer(2),
                  rows.integer(3), rows.integer(4), rows.integer(5)};
    if (first && first->communicator == end.communicator && first->sequence == end.sequence &&
        first->process != end.process) {
      arrow(true, offset + end.op, "collective", first->process, first->stream * kSubTracks,
            first->start_ns);
      arrow(false, offset + end.op, "collective", end.process, end.stream * kSubTracks,
            end.start_ns);
      ++summary_.arrows;
    } else {
      first = end;
    }
  }
}

void ChromeWriter::write_plan(const Schedule& schedule) {
  for (const int64_t rank : ranks_with_steps(db_)) {
    write_plan(schedule, fold_step(db_, rank, schedule.phase));
  }
}

// All ranks run the same plan. A window's prefetches follow each other at the method's rate, from
// the start of the window.
void ChromeWriter::write_plan(const Schedule& schedule, const FoldedStep& folded) {
  name_track("thread_name", folded.process.value, kPlanTrack, "planned prefetches");
  Query steps = db_.query(
      "SELECT start_ns FROM step WHERE process_id = ? AND (phase = 'prefill') = ? ORDER BY ordinal",
      {folded.process.value, int64_t{folded.phase == StepPhase::prefill}});
  while (steps.next()) {
    int64_t window = -1;
    double at_ns = 0;
    for (const PlannedPrefetch& prefetch : schedule.prefetches) {
      if (prefetch.window_ordinal < 0 ||
          prefetch.window_ordinal >= static_cast<int64_t>(folded.ops.size())) {
        throw input_error(
            "the schedule has a window at operator {}, the trace's step has {} operators: it "
            "belongs to another trace",
            prefetch.window_ordinal, folded.ops.size());
      }
      if (prefetch.window_ordinal != window) {
        window = prefetch.window_ordinal;
        at_ns = static_cast<double>(steps.integer(0)) +
                folded.ops[static_cast<size_t>(window)].start_ns;
      }
      const double dur_ns = prefetch.ns_per_byte * static_cast<double>(prefetch.length_bytes);
      const auto start_ns = static_cast<int64_t>(at_ns),
                 end_ns = static_cast<int64_t>(at_ns + dur_ns);
      slice("prefetch", prefetch.tensor, folded.process.value, kPlanTrack,
            std::max(start_ns, base_ns_), std::max(end_ns, std::max(start_ns, base_ns_)));
      put(R"(, "args": {{"bytes": {}, "for": {}}}}})", prefetch.length_bytes,
          json_text(prefetch.consumer));
      at_ns += dur_ns;
      ++summary_.prefetches;
    }
  }
}

ExportSummary ChromeWriter::write(const std::optional<Schedule>& schedule) {
  base_ns_ = db_.query_integer(
                    "SELECT MIN(t) FROM (SELECT MIN(start_ns) AS t FROM op UNION ALL "
                    "SELECT MIN(start_ns) FROM range)")
                 .value_or(0);
  put("{{\"schemaVersion\": 1, \"displayTimeUnit\": \"ns\", \"baseTimeNanoseconds\": {}, "
      "\"traceEvents\": [",
      base_ns_);
  write_processes();
  write_ranges();
  write_operators();
  write_counters();
  write_collective_arrows();
  if (schedule) write_plan(*schedule);
  put("\n]}}\n");
  file_.close();
  return summary_;
}

}  // namespace

int run_export(const std::filesystem::path& trace, const std::string& format,
               const std::optional<std::filesystem::path>& schedule,
               const std::filesystem::path& output, bool force, Console& console) {
  if (format != "chrome") {
    throw usage_error("--export {}: no such format; there is: chrome", printable(format, 40));
  }
  refuse_input_as_output(output, {trace.string(), schedule ? schedule->string() : ""});
  const TraceDb db = TraceDb::open(trace);
  std::optional<Schedule> plan;
  if (schedule) {
    plan = read_schedule(*schedule);
    require_same_trace(*plan, *schedule, trace);
  }
  OutputFile out(output, force);
  const std::filesystem::path target = out.is_stdout() ? output : out.temporary_path();
  const ExportSummary summary = ChromeWriter(db, target, output.extension() == ".gz").write(plan);
  if (!out.is_stdout()) out.commit();
  console.info(fmt::format(
      "{} operators, {} ranges, {} arrows, {} counter values, {} planned prefetches",
      summary.operators, summary.ranges, summary.arrows, summary.counters, summary.prefetches));
  console.next(fmt::format("open {} in https://ui.perfetto.dev", output.string()));
  return kExitDone;
}

}  // namespace preserve::exporter
