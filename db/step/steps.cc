// SPDX-License-Identifier: Apache-2.0
#include "db/step/steps.h"

#include <algorithm>

#include "common/error.h"
#include "common/hash.h"
#include "db/step/annotations.h"
#include "db/step/period.h"
#include "db/step/quality.h"

namespace preserve {
namespace {

// Only outermost, non-overlapping steps: an annotation nested in a step is not another step.
std::vector<StepSpan> without_overlaps(std::vector<StepSpan> spans) {
  std::ranges::sort(spans, [](const StepSpan& a, const StepSpan& b) {
    return a.start_ns != b.start_ns ? a.start_ns < b.start_ns : a.end_ns > b.end_ns;
  });
  std::vector<StepSpan> kept;
  for (const StepSpan& span : spans) {
    if (span.end_ns > span.start_ns && (kept.empty() || span.start_ns >= kept.back().end_ns)) {
      kept.push_back(span);
    }
  }
  return kept;
}

// Operators looked at together when steps are detected: thousands of steps, and a bound on memory
// for recordings of any length.
constexpr size_t kWindow = 1'000'000;

// Rows of operators are looked through once for all streams, and then between the first and the
// last one only: producers insert process by process and stream by stream.
using Operators = std::unordered_map<int64_t, StreamOperators>;  // by stream

Operators operators_by_stream(const TraceDb& db) {
  Operators all;
  StreamOperators* last = nullptr;
  Query rows = db.query("SELECT id, stream_id, kind FROM op ORDER BY id");
  while (rows.next()) {
    const int64_t stream = rows.integer(1);
    if (last == nullptr || last->stream != stream) last = &all[stream];
    last->stream = stream;
    last->last = rows.integer(0);
    if (last->operators++ == 0) last->first = last->last;
    const OpKind kind = rows.op_kind(2);
    last->collectives += kind == OpKind::collective ? 1 : 0;
    last->communication += kind == OpKind::collective || kind == OpKind::p2p ? 1 : 0;
  }
  return all;
}

// Those of one process in the file.
class WrittenOperators : public OperatorSource {
 public:
  explicit WrittenOperators(const TraceDb& db) : db_(db) {}
  void add(const StreamOperators& stream) { streams_.push_back(stream); }
  const std::vector<StreamOperators>& streams() const override { return streams_; }

  Next sequence(const StreamOperators& stream, Of of) const override {
    const bool communicates = of == Of::communication;
    // Within a stream, ids rise with the start: sorting by it again would cost more than all else.
    Query found =
        db_.query(std::string("SELECT op.name_id, op.start_ns, op.end_ns, ") +
                      (communicates ? "bytes, communicator, op.kind FROM op "
                                      "JOIN collective ON op_id = op.id "
                       : stream.communication == 0
                           ? "NULL, NULL FROM op "
                           : "bytes, communicator FROM op LEFT JOIN collective ON op_id = op.id ") +
                      "WHERE op.stream_id = ? AND op.id BETWEEN ? AND ? ORDER BY op.id",
                  {stream.stream, stream.first, stream.last});
    return [rows = std::move(found), communicates](StepOperator& op) mutable {
      if (!rows.next()) return false;
      op = {.start_ns = rows.integer(1),
            .end_ns = rows.integer(2),
            .name = rows.integer(0),
            .kind = communicates ? rows.op_kind(5) : OpKind::other,
            .bytes = rows.optional_integer(3).value_or(-1),
            .communicator = rows.optional_integer(4).value_or(-1)};
      return true;
    };
  }

  void launched(const Take& take) const override {
    for (const StreamOperators& stream : streams_) {
      if (!db_.query_integer("SELECT 1 FROM stream WHERE id = ? AND kind = 'gpu'",
                             {stream.stream})) {
        continue;
      }
      Query rows = db_.query(
          "SELECT range_id, start_ns, end_ns FROM op "
          "WHERE stream_id = ? AND id BETWEEN ? AND ? AND range_id IS NOT NULL",
          {stream.stream, stream.first, stream.last});
      while (rows.next()) take(rows.integer(0), rows.integer(1), rows.integer(2));
    }
  }

 private:
  const TraceDb& db_;
  std::vector<StreamOperators> streams_;
};

using Of = OperatorSource::Of;

// What one stream repeats, a window at a time: its communication, or all its operators.
class Sequence {
 public:
  Sequence(OperatorSource::Next next, Of of) : of_(of), next_(std::move(next)) {}
  void fill() {
    StepOperator op;
    while (symbols_.size() < kWindow && (more_ = next_(op))) {
      uint64_t symbol = mixed_hash(0, static_cast<uint64_t>(op.name));
      symbol = mixed_hash(symbol, static_cast<uint64_t>(op.bytes));
      symbols_.push_back(mixed_hash(symbol, static_cast<uint64_t>(op.communicator)));
      // What runs between two collectives belongs to the second one.
      const bool after_last = of_ == Of::communication && last_end_ns_ != INT64_MIN;
      starts_.push_back(after_last ? last_end_ns_ : op.start_ns);
      last_end_ns_ = std::max(last_end_ns_, op.end_ns);
    }
  }
  void drop(size_t count) {
    symbols_.erase(symbols_.begin(), symbols_.begin() + static_cast<std::ptrdiff_t>(count));
    starts_.erase(starts_.begin(), starts_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  bool more() const { return more_; }
  const std::vector<uint64_t>& symbols() const { return symbols_; }
  // The last block has no successor to end it, so it ends with its last operator.
  int64_t start_ns(size_t index) const {
    return index < starts_.size() ? starts_[index] : last_end_ns_;
  }

 private:
  Of of_;
  OperatorSource::Next next_;
  bool more_ = true;
  std::vector<uint64_t> symbols_;
  std::vector<int64_t> starts_;
  int64_t last_end_ns_ = INT64_MIN;
};

using FindPeriod = std::function<Period(const std::vector<uint64_t>&)>;

std::vector<StepSpan> blocks_of(const OperatorSource& operators, const StreamOperators& stream,
                                Of of, const FindPeriod& find) {
  std::vector<StepSpan> spans;
  for (Sequence sequence(operators.sequence(stream, of), of); sequence.more();) {
    sequence.fill();
    const Period period = find(sequence.symbols());
    // The last block may continue after the window: it starts the next one.
    const size_t blocks = period.repeats - (sequence.more() && period.repeats > 0 ? 1 : 0);
    for (size_t block = 0; block < blocks; ++block) {
      const size_t begin = period.begin + block * period.length;
      spans.push_back({sequence.start_ns(begin), sequence.start_ns(begin + period.length), 0,
                       StepPhase::unknown});
    }
    if (sequence.more()) {
      sequence.drop(blocks > 0 ? period.begin + blocks * period.length : kWindow / 2);
    }
  }
  return spans;
}

// A period of one collective, or of several that are all alike, only says that there is a loop.
Period period_of_collectives(const std::vector<uint64_t>& symbols) {
  const Period period = find_period(symbols);
  const auto first = symbols.begin() + static_cast<std::ptrdiff_t>(period.begin);
  const auto last = first + static_cast<std::ptrdiff_t>(period.length);
  return std::adjacent_find(first, last, std::not_equal_to<>()) == last ? Period{} : period;
}

// Blocks of the sequence on the stream with most collectives, and then most operators.
std::vector<StepSpan> detect(const OperatorSource& operators, const StepOptions& options) {
  const std::vector<StreamOperators>& streams = operators.streams();
  const auto busiest = std::ranges::max_element(streams, [](auto& a, auto& b) {
    return std::pair(a.collectives, a.operators) < std::pair(b.collectives, b.operators);
  });
  if (busiest == streams.end()) return {};
  const StreamOperators& stream = *busiest;
  if (options.collectives > 0) {
    return blocks_of(operators, stream, Of::communication, [&](const auto& symbols) {
      return repetition_of(symbols, static_cast<size_t>(options.collectives));
    });
  }
  std::vector<StepSpan> spans;
  if (stream.collectives > 0) {
    spans = blocks_of(operators, stream, Of::communication, period_of_collectives);
    if (!spans.empty()) return spans;
  }
  spans = blocks_of(operators, stream, Of::operators,
                    [](const auto& symbols) { return find_period(symbols); });
  if (spans.empty() || stream.collectives == 0) return spans;
  const StepSpan& middle = spans[spans.size() / 2];
  int64_t inside = 0;
  const OperatorSource::Next next = operators.sequence(stream, Of::communication);
  for (StepOperator op; next(op);) {
    const bool in_middle = op.start_ns >= middle.start_ns && op.start_ns < middle.end_ns;
    if (op.kind == OpKind::collective && in_middle) ++inside;
  }
  return inside > 1 ? spans : std::vector<StepSpan>{};
}

std::vector<KnownStep> add_steps(TraceDb& db, ProcessId process, const std::vector<StepSpan>& spans,
                                 const char* source) {
  std::vector<KnownStep> steps;
  for (const StepSpan& span : spans) {
    const StepId id = db.add(StepRow{.process = process,
                                     .ordinal = static_cast<int64_t>(steps.size()),
                                     .phase = span.phase,
                                     .start_ns = span.start_ns,
                                     .end_ns = span.end_ns,
                                     .source = source});
    steps.push_back({span.start_ns, span.end_ns, id});
  }
  return steps;
}

std::unordered_map<int64_t, int64_t> processes_of_streams(const TraceDb& db) {
  std::unordered_map<int64_t, int64_t> process_of_stream;
  Query rows = db.query("SELECT id, process_id FROM stream");
  while (rows.next()) process_of_stream[rows.integer(0)] = rows.integer(1);
  return process_of_stream;
}

// By process.
std::map<int64_t, RangeWindow> windows_of_ranges(
    const TraceDb& db, const std::unordered_map<int64_t, int64_t>& process_of_stream) {
  std::map<int64_t, RangeWindow> windows;
  RangeWindow* window = nullptr;
  int64_t stream = 0;  // of the row before
  Query rows = db.query("SELECT id, stream_id FROM range ORDER BY id");
  while (rows.next()) {
    const int64_t id = rows.integer(0);
    if (window == nullptr || rows.integer(1) != stream) {
      stream = rows.integer(1);
      const auto process = process_of_stream.find(stream);
      if (process == process_of_stream.end()) continue;
      window = &windows.try_emplace(process->second, RangeWindow{id, id}).first->second;
    }
    window->last = id;
  }
  return windows;
}

// Processes whose ranges lie between each other's are looked at together; no range is gone through
// twice. Those without ranges come alone, with an empty window.
std::vector<std::pair<std::vector<int64_t>, RangeWindow>> together(
    const std::vector<int64_t>& processes, const std::map<int64_t, RangeWindow>& windows) {
  std::vector<std::pair<std::vector<int64_t>, RangeWindow>> groups;
  for (const int64_t process : processes) {
    const auto found = windows.find(process);
    groups.push_back({{process}, found == windows.end() ? RangeWindow{0, -1} : found->second});
  }
  std::ranges::stable_sort(
      groups, [](const auto& a, const auto& b) { return a.second.first < b.second.first; });
  std::vector<std::pair<std::vector<int64_t>, RangeWindow>> merged;
  for (auto& [group, window] : groups) {
    if (merged.empty() || window.first > merged.back().second.last) {
      merged.emplace_back(std::move(group), window);
      continue;
    }
    merged.back().first.push_back(group.front());
    merged.back().second.last = std::max(merged.back().second.last, window.last);
  }
  for (auto& [group, window] : merged) std::ranges::sort(group);
  std::ranges::sort(merged,
                    [](const auto& a, const auto& b) { return a.first.front() < b.first.front(); });
  return merged;
}

// Sets op.step_id of every operator of `streams` that starts within a step and has none yet. One
// UPDATE per run of consecutive row numbers, which are long.
void attribute_operators(TraceDb& db, const std::vector<StreamOperators>& streams,
                         const std::vector<KnownStep>& steps) {
  struct Run {
    int64_t first = 0, last = 0;
    StepId step;
  };
  std::vector<Run> runs;
  if (steps.empty()) return;
  for (const StreamOperators& stream : streams) {
    Query rows = db.query(
        "SELECT id, start_ns FROM op WHERE stream_id = ? AND id BETWEEN ? AND ? ORDER BY id",
        {stream.stream, stream.first, stream.last});
    while (rows.next()) {
      const StepId step = step_at(steps, rows.integer(1));
      if (!step) continue;
      const int64_t op = rows.integer(0);
      if (!runs.empty() && runs.back().step == step && runs.back().last + 1 == op) {
        runs.back().last = op;
      } else {
        runs.push_back({op, op, step});
      }
    }
  }
  for (const Run& run : runs) {
    db.execute("UPDATE op SET step_id = ? WHERE id BETWEEN ? AND ? AND step_id IS NULL",
               {run.step.value, run.first, run.last});
  }
}

}  // namespace

std::vector<KnownStep> mark_annotated_steps(TraceDb& db, ProcessId process, StepNames& names,
                                            RangeWindow window) {
  SpansOfProcesses spans = annotated_spans(db, {{process}}, window, names);
  return add_steps(db, process, without_overlaps(std::move(spans[process.value])), "nvtx");
}

std::optional<StepPhase> annotated_phase(const TraceDb& db, const std::string& name) {
  const auto named = [&](const std::vector<std::string>& globs) {
    return std::ranges::any_of(globs, [&](const std::string& glob) {
      return db.query_integer("SELECT ? GLOB ?", {name, glob}) == 1;
    });
  };
  for (const StepFamily& family : known_step_families()) {
    if (named(family.decode)) return StepPhase::decode;
    if (named(family.prefill)) return StepPhase::prefill;
    if (named(family.unknown)) return StepPhase::unknown;
  }
  return std::nullopt;
}

StepId step_at(const std::vector<KnownStep>& steps, int64_t ns) {
  const auto after = std::ranges::upper_bound(steps, ns, {}, &KnownStep::start_ns);
  if (after == steps.begin() || ns >= (after - 1)->end_ns) return {};
  return (after - 1)->step;
}

std::vector<std::vector<KnownStep>> find_steps(TraceDb& db, const std::vector<StepSearch>& searches,
                                               StepNames& names, RangeWindow window) {
  SpansOfProcesses annotated = annotated_spans(db, searches, window, names);
  for (auto& [process, spans] : annotated) spans = without_overlaps(std::move(spans));
  follow_launches(db, searches, window, annotated);
  const StepOptions& options = names.options();
  std::vector<std::vector<KnownStep>> steps;
  for (const StepSearch& search : searches) {
    if (const auto found = annotated.find(search.process.value); found != annotated.end()) {
      steps.push_back(add_steps(db, search.process, found->second, "nvtx"));
      continue;
    }
    steps.push_back(add_steps(db, search.process,
                              without_overlaps(detect(*search.operators, options)),
                              options.collectives > 0 ? "counted" : "detected"));
  }
  return steps;
}

StepSummary finish_steps(TraceDb& db) {
  StepSummary summary;
  {
    Query rows = db.query("SELECT source, COUNT(*) FROM step GROUP BY source");
    while (rows.next()) {
      if (rows.text(0) == "nvtx") summary.annotated = rows.integer(1);
      if (rows.text(0) == "detected") summary.detected = rows.integer(1);
      if (rows.text(0) == "counted") summary.counted = rows.integer(1);
    }
  }
  add_quality(db);
  return summary;
}

StepSummary mark_steps(TraceDb& db, const StepOptions& options) {
  std::vector<int64_t> processes;  // those whose steps are not marked already
  {
    Query rows = db.query(
        "SELECT id FROM process WHERE id NOT IN "
        "(SELECT process_id FROM step WHERE source = 'nvtx') ORDER BY id");
    while (rows.next()) processes.push_back(rows.integer(0));
  }
  if (processes.empty()) return finish_steps(db);
  std::map<int64_t, WrittenOperators> operators;
  for (const int64_t process : processes) operators.try_emplace(process, db);
  const std::unordered_map<int64_t, int64_t> process_of_stream = processes_of_streams(db);
  {
    const Operators all = operators_by_stream(db);
    for (const auto& [stream, process] :
         std::map(process_of_stream.begin(), process_of_stream.end())) {
      const auto own = operators.find(process);
      const auto found = all.find(stream);
      if (own != operators.end() && found != all.end()) own->second.add(found->second);
    }
  }
  StepNames names(options);
  std::map<int64_t, RangeWindow> windows;
  if (!names.meanings(db).empty()) windows = windows_of_ranges(db, process_of_stream);
  for (const auto& [group, window] : together(processes, windows)) {
    std::vector<StepSearch> searches;
    for (const int64_t process : group) searches.push_back({{process}, &operators.at(process)});
    const std::vector<std::vector<KnownStep>> steps = find_steps(db, searches, names, window);
    for (size_t i = 0; i < group.size(); ++i) {
      attribute_operators(db, operators.at(group[i]).streams(), steps[i]);
    }
  }
  return finish_steps(db);
}

}  // namespace preserve
