// SPDX-License-Identifier: Apache-2.0
#include "profiler/summary/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "profiler/gpu/kernel_rules.h"

namespace preserve::summary {
namespace {

constexpr double kCertain = 0.5;  // confidence from which bytes count as known rather than inferred

// Length of a union of intervals that come in order of their start.
class Union {
 public:
  void add(int64_t start_ns, int64_t end_ns) {
    const int64_t from = any_ ? std::max(start_ns, covered_to_) : start_ns;
    if (end_ns > from) sum_ns_ += end_ns - from;
    covered_to_ = any_ ? std::max(covered_to_, end_ns) : end_ns;
    any_ = true;
  }
  int64_t sum_ns() const { return sum_ns_; }

 private:
  int64_t sum_ns_ = 0, covered_to_ = 0;
  bool any_ = false;
};

std::unordered_map<int64_t, std::string> class_names(const TraceDb& db, ProcessId process) {
  const gpu::KernelRules rules;
  std::unordered_map<int64_t, std::string> names;
  Query rows = db.query(
      "SELECT DISTINCT string.id, string.value FROM op JOIN stream ON stream.id = op.stream_id "
      "JOIN string ON string.id = op.name_id "
      "WHERE stream.process_id = ? AND stream.kind = 'gpu' AND op.kind = 'compute'",
      {process.value});
  while (rows.next()) names[rows.integer(0)] = to_text(rules.identify(rows.text(1)).kernel_class);
  return names;
}

void add_operators(const TraceDb& db, ProcessId process, ProcessSummary& out) {
  struct Class {
    int64_t count = 0;
    Union busy;
  };
  const auto names = class_names(db, process);
  std::map<std::string, Class> classes;
  Union all, communication, other;
  int64_t first_ns = 0, last_ns = 0;
  Query rows = db.query(
      "SELECT op.kind, op.name_id, op.start_ns, op.end_ns, op.range_id IS NOT NULL FROM op "
      "JOIN stream ON stream.id = op.stream_id WHERE stream.process_id = ? ORDER BY op.start_ns",
      {process.value});
  while (rows.next()) {
    const int64_t start_ns = rows.integer(2), end_ns = rows.integer(3);
    const std::string_view kind = rows.text(0);
    const bool communicates = kind == "collective" || kind == "p2p";
    const auto name = names.find(rows.integer(1));
    Class& own =
        classes[kind == "compute" && name != names.end() ? name->second : std::string(kind)];
    ++own.count;
    own.busy.add(start_ns, end_ns);
    all.add(start_ns, end_ns);
    (communicates ? communication : other).add(start_ns, end_ns);
    first_ns = out.operators == 0 ? start_ns : first_ns;
    last_ns = out.operators == 0 ? end_ns : std::max(last_ns, end_ns);
    ++out.operators;
    out.summed_ns += end_ns - start_ns;
    if (kind == "compute") {
      out.compute_ns += end_ns - start_ns;
      if (rows.integer(4) != 0) out.in_range_ns += end_ns - start_ns;
    }
  }
  out.wall_ns = last_ns - first_ns;
  out.busy_ns = all.sum_ns();
  out.communication_ns = communication.sum_ns();
  out.exposed_ns = all.sum_ns() - other.sum_ns();
  for (const auto& [name, each] : classes) {
    out.classes.push_back({name, each.count, each.busy.sum_ns()});
  }
  std::ranges::stable_sort(out.classes, std::ranges::greater(), &ClassTime::busy_ns);
}

void add_collectives(const TraceDb& db, ProcessId process, ProcessSummary& out) {
  struct Group {
    CollectiveGroup row;
    std::vector<double> durations;
    double sum = 0;
  };
  std::map<std::string, Group> groups;
  Query rows = db.query(
      "SELECT collective.function, collective.bytes, op.end_ns - op.start_ns FROM collective "
      "JOIN op ON op.id = collective.op_id JOIN stream ON stream.id = op.stream_id "
      "WHERE stream.process_id = ?",
      {process.value});
  while (rows.next()) {
    Group& group = groups[std::string(rows.text(0))];
    group.row.function = std::string(rows.text(0));
    ++group.row.count;
    if (const auto bytes = rows.optional_integer(1)) {
      ++group.row.with_bytes;
      group.row.bytes = checked_add(group.row.bytes, *bytes, "sum of collective bytes");
    }
    group.durations.push_back(static_cast<double>(rows.integer(2)));
    group.sum += group.durations.back();
  }
  std::vector<Group> sorted;
  for (auto& [name, group] : groups) {
    group.row.median_ns = median(group.durations);
    group.row.p90_ns = quantile(group.durations, 0.9);
    group.row.max_ns = quantile(group.durations, 1);
    sorted.push_back(std::move(group));
  }
  std::ranges::stable_sort(sorted, std::ranges::greater(), &Group::sum);
  for (Group& group : sorted) out.collectives.push_back(std::move(group.row));
}

void add_steps(const TraceDb& db, ProcessId process, ProcessSummary& out) {
  std::vector<double> durations;
  Query rows = db.query("SELECT end_ns - start_ns, phase, source FROM step WHERE process_id = ?",
                        {process.value});
  while (rows.next()) {
    durations.push_back(static_cast<double>(rows.integer(0)));
    out.decode += rows.text(1) == "decode" ? 1 : 0;
    out.prefill += rows.text(1) == "prefill" ? 1 : 0;
    out.step_source = rows.text(2) == "detected" ? "guessed" : std::string(rows.text(2));
  }
  out.steps = static_cast<int64_t>(durations.size());
  if (!durations.empty()) out.step_median_ns = median(durations);
}

void add_coverage(const TraceDb& db, ProcessId process, ProcessSummary& out) {
  // An operator is as well known as its best operand that is read.
  Query rows = db.query(
      "SELECT SUM(CASE WHEN sure >= ?2 THEN dur ELSE 0 END), SUM(CASE WHEN sure < ?2 THEN dur ELSE "
      "0 END) "
      "FROM (SELECT op.end_ns - op.start_ns AS dur, MAX(access.confidence) AS sure FROM access "
      "      JOIN op ON op.id = access.op_id JOIN stream ON stream.id = op.stream_id "
      "      WHERE stream.process_id = ?1 AND op.kind = 'compute' AND access.mode = 'read' "
      "      GROUP BY op.id)",
      {process.value, kCertain});
  if (rows.next()) {
    out.bytes_certain_ns = rows.integer(0);
    out.bytes_inferred_ns = rows.integer(1);
  }
}

std::string share(int64_t part, int64_t whole) {
  if (whole <= 0) return "-";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void print_losses(const TraceDb& db, std::string& text) {
  Query rows = db.query(
      "SELECT rank, source, kind, SUM(count) FROM loss_nonzero GROUP BY 1, 2, 3 ORDER BY 4 DESC, "
      "2, 3, 1");
  bool any = false;
  while (rows.next()) {
    if (!any) text += "LOST OR MISSING\n";
    any = true;
    const auto rank = rows.optional_integer(0);
    text += fmt::format("  {:>12}  {} {}{}\n", rows.integer(3), printable(rows.text(1)),
                        printable(rows.text(2)), rank ? fmt::format(" (rank {})", *rank) : "");
  }
  text += any ? "\n" : "Nothing was lost.\n\n";
}

void print_devices(const TraceDb& db, std::string& text) {
  Query rows = db.query(
      "SELECT kind, name, cache_bytes, memory_bandwidth_bytes_per_s, COUNT(*) FROM device "
      "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2");
  text += "DEVICES\n";
  while (rows.next()) {
    const auto cache = rows.optional_integer(2), bandwidth = rows.optional_integer(3);
    text += fmt::format("  {} x {} {}: cache {}, memory {}\n", rows.integer(4), rows.text(0),
                        printable(rows.text(1)), cache ? format_size(*cache) : "unknown",
                        bandwidth ? format_rate(static_cast<double>(*bandwidth)) : "unknown");
  }
  text += "\n";
}

void print_process(const ProcessSummary& process, std::string& text) {
  text += fmt::format("{}\n", process.label);
  text += fmt::format("  operators     {}, wall {}, busy {} ({}), summed {}\n", process.operators,
                      format_duration(process.wall_ns), format_duration(process.busy_ns),
                      share(process.busy_ns, process.wall_ns), format_duration(process.summed_ns));
  text +=
      process.steps == 0
          ? "  steps         none found\n"
          : fmt::format("  steps         {} ({}): {} decode, {} prefill, {} unknown; median {}\n",
                        process.steps, process.step_source, process.decode, process.prefill,
                        process.steps - process.decode - process.prefill,
                        format_duration(process.step_median_ns));
  text += fmt::format("  communication {} of the wall time, {} exposed (nothing else ran)\n",
                      share(process.communication_ns, process.wall_ns),
                      format_duration(process.exposed_ns));
  text += fmt::format(
      "  compute time  {} launched in a range; bytes known for {}, inferred for {}, unknown for "
      "{}\n",
      share(process.in_range_ns, process.compute_ns),
      share(process.bytes_certain_ns, process.compute_ns),
      share(process.bytes_inferred_ns, process.compute_ns),
      share(process.compute_ns - process.bytes_certain_ns - process.bytes_inferred_ns,
            process.compute_ns));
  text += fmt::format("  {:<14} {:>9} {:>12} {:>9}\n", "class", "count", "busy", "of wall");
  for (const ClassTime& each : process.classes) {
    text += fmt::format("  {:<14} {:>9} {:>12} {:>9}\n", each.name, each.count,
                        format_duration(each.busy_ns), share(each.busy_ns, process.wall_ns));
  }
  text += fmt::format("  {:<14} {:>9} {:>12} {:>9}\n", "[idle]", "",
                      format_duration(process.wall_ns - process.busy_ns),
                      share(process.wall_ns - process.busy_ns, process.wall_ns));
  if (!process.collectives.empty()) {
    text += fmt::format("  {:<14} {:>9} {:>12} {:>9} {:>10} {:>10} {:>10}\n", "collective", "count",
                        "bytes", "known", "median", "p90", "max");
    for (const CollectiveGroup& each : process.collectives) {
      text += fmt::format("  {:<14} {:>9} {:>12} {:>9} {:>10} {:>10} {:>10}\n",
                          printable(each.function, 14), each.count,
                          each.with_bytes == 0 ? "unknown" : format_size(each.bytes),
                          share(each.with_bytes, each.count), format_duration(each.median_ns),
                          format_duration(each.p90_ns), format_duration(each.max_ns));
    }
  }
  text += "\n";
}

}  // namespace

ProcessSummary summarize_process(const TraceDb& db, ProcessId process) {
  ProcessSummary out;
  Query rows = db.query("SELECT rank, world_size, pid, command, complete FROM process WHERE id = ?",
                        {process.value});
  if (rows.next()) {
    const auto rank = rows.optional_integer(0), world = rows.optional_integer(1);
    out.label = rank ? fmt::format("RANK {}{}", *rank, world ? fmt::format(" of {}", *world) : "")
                     : fmt::format("PROCESS {} (no rank)", rows.integer(2));
    if (!rows.text(3).empty()) out.label += fmt::format(", {}", printable(rows.text(3), 60));
    if (rows.integer(4) == 0) out.label += ", incomplete";
  }
  add_operators(db, process, out);
  add_collectives(db, process, out);
  add_steps(db, process, out);
  add_coverage(db, process, out);
  return out;
}

std::string summarize(const TraceDb& db) {
  std::string text = fmt::format("{}\n\n", db.file());
  print_losses(db, text);
  if (const std::string counters = db.meta("counters"); !counters.empty()) {
    text += fmt::format(
        "recorded with --counters {}: kernels ran one by one, so no time here is the program's\n\n",
        printable(counters));
  }
  print_devices(db, text);
  if (const std::optional<RecordingQuality> quality = worst_quality(db)) {
    text += fmt::format("QUALITY (of the rank whose steps are least alike)\n  {}{}\n\n",
                        describe(*quality), quality->too_noisy() ? ": too noisy to plan from" : "");
  }
  Query processes = db.query("SELECT id FROM process ORDER BY rank IS NULL, rank, id");
  while (processes.next()) print_process(summarize_process(db, {processes.integer(0)}), text);
  return text;
}

int run_summary(const std::filesystem::path& trace, Console& console) {
  const TraceDb db = TraceDb::open(trace);
  const std::string text = summarize(db);
  std::fwrite(text.data(), 1, text.size(), stdout);
  console.next(next_command(db, trace.string()));
  return kExitDone;
}

}  // namespace preserve::summary
