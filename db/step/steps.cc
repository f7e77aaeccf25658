// SPDX-License-Identifier: Apache-2.0
#include "db/step/steps.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "common/error.h"
#include "db/step/period.h"
#include "db/step/quality.h"

namespace preserve {
namespace {

// What engines call their step, most specific first: the first family that occurs is used, because
// engines nest annotations of other frameworks. [[] is a literal bracket. A mixed batch counts as
// prefill.
struct Family {
  std::vector<std::string> decode{}, prefill{}, unknown{};
};
const std::vector<Family> kFamilies{
    {{"decode_step*", "decode step*"}, {"prefill_step*", "prefill step*"}},
    // SGLang
    {{"step[[]DECODE*"}, {"step[[]EXTEND*", "step[[]PREFILL*", "step[[]MIXED*"}},
    {{"*forward_decode*"}, {"*forward_extend*"}},
    // vLLM: numbers of context and generation requests
    {{"execute_*context_0(*generation_*"}, {"execute_*context_[1-9]*generation_*"}},
    // TensorRT-LLM
    {{"*_forward_step*: 0 ctx reqs*"}, {"*_forward_step*ctx reqs*"}},
    // Frameworks that know no phases
    {{}, {}, {"ProfilerStep#*", "execute_model*", "*_forward_step*"}}};

struct StepSpan {
  int64_t start_ns = 0, end_ns = 0;
  int64_t range = 0;  // row of the annotation, 0 for a detected step
  StepPhase phase = StepPhase::unknown;
};

// Ranges of `process` whose name matches one of the globs, as spans.
void append_annotated(const TraceDb& db, ProcessId process, const std::vector<std::string>& globs,
                      StepPhase phase, std::unordered_set<int64_t>& known,
                      std::vector<StepSpan>& spans) {
  for (const std::string& glob : globs) {
    // Most globs match no name at all; then the ranges need not be looked through.
    if (!db.query_integer("SELECT 1 FROM string WHERE value GLOB ? LIMIT 1", {glob})) continue;
    Query rows = db.query(
        "SELECT range.start_ns, range.end_ns, range.id FROM range "
        "JOIN stream ON stream.id = range.stream_id "
        "WHERE stream.process_id = ? AND range.kind <> 'mark' AND range.end_ns IS NOT NULL "
        "AND range.name_id IN (SELECT id FROM string WHERE value GLOB ?)",
        {process.value, glob});
    while (rows.next()) {
      // A range that matches two globs ("0 ctx reqs" is also "ctx reqs") is what the first one
      // says.
      const int64_t range = rows.integer(2);
      if (known.insert(range).second) {
        spans.push_back({rows.integer(0), rows.integer(1), range, phase});
      }
    }
  }
}

std::vector<StepSpan> annotated_spans(const TraceDb& db, ProcessId process,
                                      const StepOptions& options) {
  std::vector<StepSpan> spans;
  if (options.by_period || options.collectives > 0) return spans;
  std::unordered_set<int64_t> known;
  const auto append = [&](const Family& family) {
    append_annotated(db, process, family.decode, StepPhase::decode, known, spans);
    append_annotated(db, process, family.prefill, StepPhase::prefill, known, spans);
    append_annotated(db, process, family.unknown, StepPhase::unknown, known, spans);
  };
  if (!options.decode_globs.empty() || !options.prefill_globs.empty()) {
    append({options.decode_globs, options.prefill_globs, {}});
    return spans;
  }
  for (const Family& family : kFamilies) {
    append(family);
    if (!spans.empty()) break;
  }
  return spans;
}

// A host thread runs ahead of its GPU: the operators that a step launched run after its annotation.
// Moves each span to where the operators launched inside it ran, up to the next one's first.
// Processes without a GPU keep their spans; so do recordings that link no operator to any
// annotation.
void follow_launches(const TraceDb& db, ProcessId process, const OperatorSource& operators,
                     std::vector<StepSpan>& spans) {
  std::unordered_map<int64_t, size_t> span_of_range;
  for (size_t i = 0; i < spans.size(); ++i) span_of_range[spans[i].range] = i;
  {
    // Parents have smaller row numbers than what they enclose.
    Query rows = db.query(
        "SELECT range.id, range.parent_id FROM range JOIN stream ON stream.id = range.stream_id "
        "WHERE stream.process_id = ? AND range.parent_id IS NOT NULL ORDER BY range.id",
        {process.value});
    while (rows.next()) {
      const auto parent = span_of_range.find(rows.integer(1));
      if (parent != span_of_range.end()) span_of_range.try_emplace(rows.integer(0), parent->second);
    }
  }
  std::vector<StepSpan> moved(spans.size());
  bool any = false;
  operators.launched([&](int64_t range, int64_t start_ns, int64_t end_ns) {
    const auto found = span_of_range.find(range);
    if (found == span_of_range.end()) return;
    StepSpan& span = moved[found->second];
    const bool first = span.range == 0;
    span.start_ns = first ? start_ns : std::min(span.start_ns, start_ns);
    span.end_ns = first ? end_ns : std::max(span.end_ns, end_ns);
    span.range = spans[found->second].range;
    span.phase = spans[found->second].phase;
    any = true;
  });
  if (!any) return;
  std::erase_if(moved, [](const StepSpan& span) { return span.range == 0; });
  std::sort(moved.begin(), moved.end(), [](const StepSpan& a, const StepSpan& b) {
    return a.start_ns != b.start_ns ? a.start_ns < b.start_ns : a.range < b.range;
  });
  for (size_t i = 0; i + 1 < moved.size(); ++i) {
    moved[i].end_ns = std::min(moved[i].end_ns, moved[i + 1].start_ns);
  }
  spans = std::move(moved);
}

// Only outermost, non-overlapping steps: an annotation nested in a step is not another step.
std::vector<StepSpan> without_overlaps(std::vector<StepSpan> spans) {
  std::sort(spans.begin(), spans.end(), [](const StepSpan& a, const StepSpan& b) {
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

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
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
  WrittenOperators(const TraceDb& db, const Operators& all, ProcessId process)
      : db_(db), process_(process) {
    Query rows =
        db.query("SELECT id FROM stream WHERE process_id = ? ORDER BY id", {process.value});
    while (rows.next()) {
      const auto found = all.find(rows.integer(0));
      if (found != all.end()) streams_.push_back(found->second);
    }
  }
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
    Query rows = db_.query(
        "SELECT op.range_id, MIN(op.start_ns), MAX(op.end_ns) FROM op "
        "JOIN stream ON stream.id = op.stream_id "
        "WHERE stream.process_id = ? AND stream.kind = 'gpu' AND op.range_id IS NOT NULL "
        "GROUP BY op.range_id",
        {process_.value});
    while (rows.next()) take(rows.integer(0), rows.integer(1), rows.integer(2));
  }

 private:
  const TraceDb& db_;
  ProcessId process_;
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
      uint64_t symbol = mix(0, static_cast<uint64_t>(op.name));
      symbol = mix(symbol, static_cast<uint64_t>(op.bytes));
      symbols_.push_back(mix(symbol, static_cast<uint64_t>(op.communicator)));
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
  const auto busiest = std::max_element(streams.begin(), streams.end(), [](auto& a, auto& b) {
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

// Sets op.step_id of every operator of `streams` that starts within a step and has none yet. One
// UPDATE per run of consecutive row numbers, which are long.
void attribute_operators(TraceDb& db, const std::vector<StreamOperators>& streams,
                         const std::vector<KnownStep>& steps) {
  struct Run {
    int64_t first = 0, last = 0;
    StepId step;
  };
  std::vector<Run> runs;
  if (streams.empty() || steps.empty()) return;
  int64_t first = INT64_MAX, last = 0;
  std::unordered_set<int64_t> own;
  for (const StreamOperators& stream : streams) {
    first = std::min(first, stream.first);
    last = std::max(last, stream.last);
    own.insert(stream.stream);
  }
  {
    Query rows =
        db.query("SELECT id, start_ns, stream_id FROM op WHERE id BETWEEN ? AND ? ORDER BY id",
                 {first, last});
    int64_t stream = 0;  // of the row before
    bool is_own = false;
    while (rows.next()) {
      if (const int64_t other = rows.integer(2); other != stream) {
        stream = other;
        is_own = own.count(stream) != 0;
      }
      const StepId step = is_own ? step_at(steps, rows.integer(1)) : StepId{};
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

std::vector<KnownStep> mark_annotated_steps(TraceDb& db, ProcessId process,
                                            const StepOptions& options) {
  return add_steps(db, process, without_overlaps(annotated_spans(db, process, options)), "nvtx");
}

std::optional<StepPhase> annotated_phase(const TraceDb& db, const std::string& name) {
  const auto named = [&](const std::vector<std::string>& globs) {
    return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
      return db.query_integer("SELECT ? GLOB ?", {name, glob}) == 1;
    });
  };
  for (const Family& family : kFamilies) {
    if (named(family.decode)) return StepPhase::decode;
    if (named(family.prefill)) return StepPhase::prefill;
    if (named(family.unknown)) return StepPhase::unknown;
  }
  return std::nullopt;
}

StepId step_at(const std::vector<KnownStep>& steps, int64_t ns) {
  const auto after = std::upper_bound(
      steps.begin(), steps.end(), ns,
      [](int64_t moment_ns, const KnownStep& step) { return moment_ns < step.start_ns; });
  if (after == steps.begin() || ns >= (after - 1)->end_ns) return {};
  return (after - 1)->step;
}

std::vector<KnownStep> find_steps(TraceDb& db, ProcessId process, const OperatorSource& operators,
                                  const StepOptions& options) {
  std::vector<StepSpan> spans = annotated_spans(db, process, options);
  if (spans.empty()) {
    spans = without_overlaps(detect(operators, options));
    return add_steps(db, process, spans, options.collectives > 0 ? "counted" : "detected");
  }
  spans = without_overlaps(std::move(spans));
  follow_launches(db, process, operators, spans);
  return add_steps(db, process, spans, "nvtx");
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
  std::vector<ProcessId> processes;  // those whose steps are not marked already
  {
    Query rows = db.query(
        "SELECT id FROM process WHERE id NOT IN "
        "(SELECT process_id FROM step WHERE source = 'nvtx') ORDER BY id");
    while (rows.next()) processes.push_back({rows.integer(0)});
  }
  std::optional<Operators> all;
  for (const ProcessId process : processes) {
    if (!all) all = operators_by_stream(db);
    const WrittenOperators operators(db, *all, process);
    attribute_operators(db, operators.streams(), find_steps(db, process, operators, options));
  }
  return finish_steps(db);
}

}  // namespace preserve
