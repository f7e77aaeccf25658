// SPDX-License-Identifier: Apache-2.0
// Format: NCCL's ext-profiler/inspector, README and source of NCCL 2.28:
//   {"header": {"id", "rank", "n_ranks", ...}, "metadata": {...},
//    "coll_perf": {"coll", "coll_sn", "coll_msg_size_bytes", "coll_exec_time_us", ...}}
// Host names and pids of "metadata" are not read.
#include "profiler/import/inspector.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "profiler/gpu/records.h"

namespace preserve::import {
namespace {

constexpr size_t kLineLimit = 1 << 20;
constexpr int64_t kRecordLimit = 2'000'000;
constexpr double kConfidence = 0.95;  // the library's own numbers, matched by order
constexpr int64_t kComparisonLimit = 50'000'000;

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

struct Line {
  int64_t rank = 0, ranks = 0, communicator = 0;
  InspectedCollective collective;
};

bool parse_line(const std::string& text, Line& line) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const nlohmann::json* header = member(json, "header");
  const nlohmann::json* perf = member(json, "coll_perf");
  if (header == nullptr || perf == nullptr) return false;
  const nlohmann::json* id = member(*header, "id");
  const nlohmann::json* function = member(*perf, "coll");
  int64_t exec_us = 0;
  if (id == nullptr || !id->is_string() || function == nullptr || !function->is_string() ||
      !number(member(*header, "rank"), line.rank) ||
      !number(member(*header, "n_ranks"), line.ranks) ||
      !number(member(*perf, "coll_sn"), line.collective.sequence) ||
      !number(member(*perf, "coll_msg_size_bytes"), line.collective.bytes) ||
      !number(member(*perf, "coll_exec_time_us"), exec_us) || exec_us > INT64_MAX / 1000) {
    return false;
  }
  const auto& text_id = id->get_ref<const std::string&>();
  const size_t start = text_id.starts_with("0x") ? 2 : 0;
  uint64_t value = 0;
  std::from_chars(text_id.data() + start, text_id.data() + text_id.size(), value, 16);
  line.communicator = static_cast<int64_t>(value & INT64_MAX);
  line.collective.exec_ns = exec_us * 1000;
  line.collective.function = gpu::collective_function(function->get_ref<const std::string&>());
  return !line.collective.function.empty();
}

struct Recorded {
  int64_t op = 0, dur_ns = 0;
  std::string function;
};

// Mean |log ratio| of durations when the trace's collectives start at `shift` in the log; negative
// when the functions differ somewhere.
double disagreement(const std::vector<Recorded>& trace, const std::vector<InspectedCollective>& log,
                    size_t shift) {
  double sum = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const InspectedCollective& logged = log[shift + i];
    if (logged.function != trace[i].function) return -1;
    sum += std::fabs(std::log(static_cast<double>(std::max<int64_t>(1, logged.exec_ns)) /
                              static_cast<double>(std::max<int64_t>(1, trace[i].dur_ns))));
  }
  return sum / static_cast<double>(std::max<size_t>(1, trace.size()));
}

}  // namespace

bool looks_like_inspector(std::string_view head) {
  const size_t line_end = head.find('\n');
  const std::string_view first = head.substr(0, line_end);
  return first.find("\"header\"") != std::string_view::npos &&
         (first.find("\"coll_perf\"") != std::string_view::npos ||
          first.find("inspector_output_format_version") != std::string_view::npos);
}

InspectorLog read_inspector(ByteSource& source, const std::string& file, bool partial) {
  InspectorLog log;
  Lines lines(source);
  std::string text;
  bool too_long = false;
  for (int64_t number = 1; lines.next(text, too_long); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos && !too_long) continue;
    ++log.received;
    Line line;
    if (too_long || log.written >= kRecordLimit || !parse_line(text, line)) {
      if (!partial) {
        throw input_error(
            "{}:{}: is not a line of an NCCL inspector log; --partial imports the rest", file,
            number);
      }
      ++log.bad_lines;
      continue;
    }
    ++log.written;
    auto& communicators = log.by_rank[line.rank];
    auto found = std::find_if(communicators.begin(), communicators.end(), [&](const auto& each) {
      return each.communicator == line.communicator;
    });
    if (found == communicators.end()) {
      communicators.push_back({line.communicator, line.ranks, {}});
      found = communicators.end() - 1;
    }
    found->collectives.push_back(std::move(line.collective));
  }
  if (!source.damage().empty() && !partial) throw input_error("{}: {}", file, source.damage());
  for (auto& [rank, communicators] : log.by_rank) {
    for (InspectedCommunicator& each : communicators) {
      std::stable_sort(each.collectives.begin(), each.collectives.end(),
                       [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
    }
  }
  return log;
}

int64_t apply_inspector(TraceDb& db, ProcessId process,
                        const std::vector<InspectedCommunicator>& communicators) {
  std::vector<Recorded> trace;
  {
    Query rows = db.query(
        "SELECT op.id, op.end_ns - op.start_ns, collective.function FROM collective "
        "JOIN op ON op.id = collective.op_id JOIN stream ON stream.id = op.stream_id "
        "JOIN string ON string.id = op.name_id "
        "WHERE stream.process_id = ? AND string.value LIKE '%nccl%' AND op.kind = 'collective' "
        "ORDER BY op.start_ns, op.id",
        {process.value});
    while (rows.next()) {
      trace.push_back({rows.integer(0), rows.integer(1), std::string(rows.text(2))});
    }
  }
  if (trace.empty()) return 0;
  // The trace is a window of the log: where durations agree best. The first communicator whose
  // functions fit at all wins; two that fit equally cannot be told apart by anything that is
  // recorded.
  for (const InspectedCommunicator& communicator : communicators) {
    const auto& log = communicator.collectives;
    if (log.size() < trace.size()) continue;
    const size_t shifts = log.size() - trace.size() + 1;
    const size_t step = 1 + shifts * trace.size() / static_cast<size_t>(kComparisonLimit);
    double best = -1;
    size_t best_shift = 0;
    for (size_t shift = 0; shift < shifts; shift += step) {
      const double distance = disagreement(trace, log, shift);
      if (distance >= 0 && (best < 0 || distance < best)) {
        best = distance;
        best_shift = shift;
      }
    }
    if (best < 0) continue;
    for (size_t i = 0; i < trace.size(); ++i) {
      const InspectedCollective& logged = log[best_shift + i];
      db.execute(
          "UPDATE collective SET bytes = ?2, ranks = COALESCE(ranks, ?3), communicator = ?4, "
          "sequence = ?5, source = 'nccl_inspector', confidence = ?6 "
          "WHERE op_id = ?1 AND (bytes IS NULL OR confidence < ?6)",
          {trace[i].op, logged.bytes, communicator.ranks, communicator.communicator,
           logged.sequence, kConfidence});
    }
    return static_cast<int64_t>(trace.size());
  }
  return 0;
}

}  // namespace preserve::import
