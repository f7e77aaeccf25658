// SPDX-License-Identifier: Apache-2.0
// Format: NCCL's ext-profiler/inspector, README and source of NCCL 2.28:
//   {"header": {"id", "rank", "n_ranks", ...}, "metadata": {...},
//    "coll_perf": {"coll", "coll_sn", "coll_msg_size_bytes", "coll_exec_time_us", ...}}
// Of "metadata" only the pid is read, which ties a log to a process of the trace; it goes nowhere.
#include "profiler/import/inspector.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "common/error.h"
#include "profiler/gpu/records.h"

namespace preserve::import {
namespace {

constexpr size_t kLineLimit = 1 << 20;
constexpr int64_t kRecordLimit = 2'000'000;
constexpr double kConfidence = 0.95;  // the library's own numbers, matched by order
constexpr size_t kCompared = 512;     // collectives by which a place in the log is recognised
// |ln(ratio)| of two durations of one collective: a factor of 2, for clocks in whole µs and timers
// of the host.
constexpr double kDurationsAgree = 0.6931;
constexpr double kAbsentCost =
    0.35;  // of a collective that is not in the log: less than a wrong one

// Lines of a stream; those longer than the limit come back cut and marked.
class Lines {
 public:
  explicit Lines(ByteSource& source) : source_(source), buffer_(64 << 10) {}
  bool next(std::string& line, bool& too_long) {
    line.clear();
    too_long = false;
    bool any = false;
    while (true) {
      if (begin_ == end_) {
        begin_ = 0;
        end_ = source_.read(buffer_.data(), buffer_.size());
        if (end_ == 0) return any;
      }
      any = true;
      const char* from = buffer_.data() + begin_;
      const char* newline = std::find(from, static_cast<const char*>(buffer_.data() + end_), '\n');
      const auto length = static_cast<size_t>(newline - from);
      if (line.size() + length <= kLineLimit) {
        line.append(from, length);
      } else {
        too_long = true;
      }
      begin_ += length;
      if (begin_ < end_) {
        ++begin_;
        return true;
      }
    }
  }

 private:
  ByteSource& source_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
};

const nlohmann::json* member(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

bool number(const nlohmann::json* value, int64_t& out) {
  if (value == nullptr || !value->is_number()) return false;
  const auto real = value->get<double>();
  if (!std::isfinite(real) || real < 0 || real > 9e18) return false;
  out = value->is_number_float() ? static_cast<int64_t>(real) : value->get<int64_t>();
  return out >= 0;
}

enum class LineKind : uint8_t { collective, other, bad };

struct Line {
  InspectedCommunicator header{};
  InspectedCollective collective{};
};

LineKind parse_line(const std::string& text, Line& line) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const nlohmann::json* header = member(json, "header");
  const nlohmann::json* id = header == nullptr ? nullptr : member(*header, "id");
  if (id == nullptr || !id->is_string()) return LineKind::bad;
  const nlohmann::json* perf = member(json, "coll_perf");
  if (perf == nullptr) return LineKind::other;
  const nlohmann::json* function = member(*perf, "coll");
  int64_t exec_us = 0;
  if (function == nullptr || !function->is_string() ||
      !number(member(*header, "rank"), line.header.rank) ||
      !number(member(*header, "n_ranks"), line.header.ranks) ||
      !number(member(*perf, "coll_sn"), line.collective.sequence) ||
      !number(member(*perf, "coll_msg_size_bytes"), line.collective.bytes) ||
      !number(member(*perf, "coll_exec_time_us"), exec_us) || exec_us > INT64_MAX / 1000) {
    return LineKind::bad;
  }
  if (const nlohmann::json* metadata = member(json, "metadata"); metadata != nullptr) {
    if (!number(member(*metadata, "pid"), line.header.pid)) line.header.pid = 0;
  }
  const auto& text_id = id->get_ref<const std::string&>();
  const size_t start = text_id.starts_with("0x") ? 2 : 0;
  uint64_t value = 0;
  std::from_chars(text_id.data() + start, text_id.data() + text_id.size(), value, 16);
  line.header.communicator = static_cast<int64_t>(value & INT64_MAX);
  line.collective.exec_ns = exec_us * 1000;
  line.collective.function = gpu::collective_function(function->get_ref<const std::string&>());
  return line.collective.function.empty() ? LineKind::other : LineKind::collective;
}

struct Recorded {
  int64_t op = 0, dur_ns = 0;
  std::string function;
};

double log_ratio(const InspectedCollective& logged, const Recorded& recorded) {
  return std::fabs(std::log(static_cast<double>(std::max<int64_t>(1, logged.exec_ns)) /
                            static_cast<double>(std::max<int64_t>(1, recorded.dur_ns))));
}

// The trace is a window of the log, which has gaps: the collective i of the trace has sequence
// number first + i, whether that is in the log or not. The first number for which durations agree
// best; nothing when none fits, or when finding out would take more than the comparisons that are
// left. `log` by rising sequence without repetition.
std::optional<int64_t> best_window(const std::vector<Recorded>& trace,
                                   const std::vector<const InspectedCollective*>& log,
                                   int64_t& left) {
  if (log.empty() || trace.empty()) return std::nullopt;
  const auto length = static_cast<int64_t>(trace.size());
  std::optional<int64_t> best;
  double best_cost = 0;
  left -= length;
  size_t from = 0;
  for (int64_t first = std::max<int64_t>(0, log.front()->sequence - length + 1);
       first <= log.back()->sequence; ++first) {
    while (log[from]->sequence < first) ++from;
    // All absent costs most; each that is there and agrees takes away.
    double cost = kAbsentCost * static_cast<double>(length);
    bool fits = true, any = false;
    for (size_t at = from;
         fits && at < log.size() && at - from < kCompared && log[at]->sequence < first + length;
         ++at) {
      const Recorded& recorded = trace[static_cast<size_t>(log[at]->sequence - first)];
      fits = log[at]->function == recorded.function;
      cost += log_ratio(*log[at], recorded) - kAbsentCost;
      any = true;
      --left;
    }
    if (--left < 0) return std::nullopt;
    if (fits && any && (!best || cost < best_cost)) {
      best = first;
      best_cost = cost;
    }
  }
  return best;
}

// Sequence numbers count all collectives of a communicator, or those of each function: when two
// functions share a number it is the latter.
bool counts_by_function(const std::vector<InspectedCollective>& log) {
  const auto both = [](const InspectedCollective& a, const InspectedCollective& b) {
    return a.sequence == b.sequence && a.function != b.function;
  };
  return std::ranges::adjacent_find(log, both) != log.end();
}

struct Assignment {
  const Recorded* recorded;
  const InspectedCollective* logged;
};

// What a communicator's log says of the trace; empty when it does not fit. Means nothing where
// `left` ran out.
std::vector<Assignment> assign(const std::vector<Recorded>& trace,
                               const InspectedCommunicator& communicator, int64_t& left) {
  const bool by_function = counts_by_function(communicator.collectives);
  std::vector<std::string> functions{{}};
  if (by_function) {
    functions.clear();
    for (const Recorded& recorded : trace) {
      if (std::ranges::find(functions, recorded.function) == functions.end()) {
        functions.push_back(recorded.function);
      }
    }
  }
  std::vector<Assignment> assignments;
  for (const std::string& function : functions) {
    std::vector<Recorded> own;
    std::vector<size_t> places;
    for (size_t i = 0; i < trace.size(); ++i) {
      if (by_function && trace[i].function != function) continue;
      own.push_back(trace[i]);
      places.push_back(i);
    }
    std::vector<const InspectedCollective*> log;
    for (const InspectedCollective& logged : communicator.collectives) {
      if (by_function && logged.function != function) continue;
      if (log.empty() || log.back()->sequence != logged.sequence) log.push_back(&logged);
    }
    const std::optional<int64_t> first = best_window(own, log, left);
    if (!first) continue;
    for (const InspectedCollective* logged : log) {
      const int64_t i = logged->sequence - *first;
      if (i < 0 || i >= std::ssize(own)) continue;
      const auto place = static_cast<size_t>(i);
      if (log_ratio(*logged, own[place]) > kDurationsAgree) continue;
      assignments.push_back({&trace[places[place]], logged});
    }
  }
  return assignments;
}

}  // namespace

bool looks_like_inspector(std::string_view head) {
  const size_t start = std::min(head.find_first_not_of(" \t\r\n"), head.size());
  const std::string_view first = head.substr(start, head.find('\n', start) - start);
  return first.find("\"header\"") != std::string_view::npos &&
         (first.find("_perf\"") != std::string_view::npos ||
          first.find("inspector_output_format_version") != std::string_view::npos);
}

InspectorLog read_inspector(ByteSource& source, const std::string& file, bool partial) {
  InspectorLog log;
  std::map<std::tuple<int64_t, int64_t, int64_t>, size_t> known;  // communicators of `log`
  Lines lines(source);
  std::string text;
  bool too_long = false;
  for (int64_t number = 1; lines.next(text, too_long); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos && !too_long) continue;
    ++log.received;
    Line line;
    const LineKind kind =
        too_long || log.written >= kRecordLimit ? LineKind::bad : parse_line(text, line);
    if (kind == LineKind::bad) {
      if (!partial) {
        throw input_error(
            "{}:{}: is not a line of an NCCL inspector log; --partial imports the rest", file,
            number);
      }
      ++log.bad_lines;
      continue;
    }
    if (kind == LineKind::other) {
      ++log.other_lines;
      continue;
    }
    ++log.written;
    const auto [found, fresh] = known.try_emplace(
        {line.header.communicator, line.header.rank, line.header.pid}, log.communicators.size());
    if (fresh) log.communicators.push_back(std::move(line.header));
    log.communicators[found->second].collectives.push_back(std::move(line.collective));
  }
  if (!source.damage().empty() && !partial) throw input_error("{}: {}", file, source.damage());
  for (InspectedCommunicator& each : log.communicators) {
    std::ranges::stable_sort(each.collectives, {}, &InspectedCollective::sequence);
  }
  return log;
}

namespace {

// The collectives of `process` in the table of apply_inspectors().
std::vector<Recorded> collectives_of(const TraceDb& db, ProcessId process) {
  std::vector<Recorded> trace;
  Query rows = db.query(
      "SELECT op_id, dur_ns, function FROM inspected WHERE process_id = ? ORDER BY start_ns, op_id",
      {process.value});
  while (rows.next()) {
    trace.push_back({rows.integer(0), rows.integer(1), std::string(rows.text(2))});
  }
  return trace;
}

void apply(TraceDb& db, const InspectedProcess& inspected, int64_t per_communicator,
           int64_t& left_of_log, InspectorUse& use) {
  const std::vector<Recorded> trace = collectives_of(db, inspected.process);
  // Which of several communicators a kernel belongs to is not recorded: the one that explains most
  // of the trace, the first of equal ones.
  const InspectedCommunicator* best = nullptr;
  std::vector<Assignment> assignments;
  for (const InspectedCommunicator* communicator : inspected.communicators) {
    const int64_t most = std::min(per_communicator, left_of_log);
    int64_t left = most;
    std::vector<Assignment> own = assign(trace, *communicator, left);
    left_of_log -= most - left;
    // The one that was not looked at to its end may be the best.
    if (left < 0) {
      ++use.too_long;
      return;
    }
    if (own.size() <= assignments.size()) continue;
    best = communicator;
    assignments = std::move(own);
  }
  for (const auto& [recorded, logged] : assignments) {
    use.changed += db.query_integer(
                         "SELECT COUNT(*) FROM collective "
                         "WHERE op_id = ?1 AND (bytes IS NULL OR confidence < ?2)",
                         {recorded->op, kConfidence})
                       .value_or(0);
    db.execute(
        "UPDATE collective SET bytes = ?2, ranks = COALESCE(ranks, ?3), communicator = ?4, "
        "sequence = ?5, source = 'nccl_inspector', confidence = ?6 "
        "WHERE op_id = ?1 AND (bytes IS NULL OR confidence < ?6)",
        {recorded->op, logged->bytes, best->ranks, best->communicator, logged->sequence,
         kConfidence});
  }
}

}  // namespace

std::vector<InspectorUse> apply_inspectors(TraceDb& db,
                                           const std::vector<std::vector<InspectedProcess>>& logs,
                                           const ComparisonLimits& limits) {
  // Once for all logs and processes: each by itself would go through the collectives of all.
  db.execute(
      "CREATE TEMP TABLE inspected (process_id INTEGER, start_ns INTEGER, op_id INTEGER, "
      "dur_ns INTEGER, function TEXT, PRIMARY KEY (process_id, start_ns, op_id)) WITHOUT ROWID");
  db.execute(
      "INSERT INTO inspected SELECT process_id, start_ns, op.id, end_ns - start_ns, function "
      "FROM collective JOIN op ON op.id = collective.op_id "
      "JOIN stream ON stream.id = op.stream_id JOIN string ON string.id = op.name_id "
      "WHERE string.value LIKE '%nccl%' AND op.kind = 'collective'");
  std::vector<InspectorUse> uses;
  for (const std::vector<InspectedProcess>& processes : logs) {
    InspectorUse& use = uses.emplace_back();
    int64_t left = limits.per_log;
    for (const InspectedProcess& process : processes) {
      apply(db, process, limits.per_communicator, left, use);
    }
  }
  db.execute("DROP TABLE inspected");
  return uses;
}

}  // namespace preserve::import
