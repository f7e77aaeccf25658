// SPDX-License-Identifier: Apache-2.0
#include "reports/model/report.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <set>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "db/step/folded_step.h"
#include "planner/schedule/schedule_check.h"
#include "reports/model/parts.h"
#include "reports/model/time_use.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr std::array kTables{"process", "device", "stream",  "range", "op",   "collective",
                             "tensor",  "access", "counter", "step",  "loss", "env"};

std::vector<NamedText> read_environment(const TraceDb& db) {
  std::vector<NamedText> environment;
  Query rows = db.query("SELECT DISTINCT name, value FROM env ORDER BY name, value");
  while (rows.next()) environment.push_back({clean(rows.text(0)), clean(rows.text(1))});
  return environment;
}

Recording read_recording(const TraceDb& db) {
  Recording recording;
  recording.tool_version = clean(db.meta("tool_version"));
  recording.machines = read_machines(db);
  recording.environment = read_environment(db);
  // The launcher is recorded too; the command that matters is the one that did the work.
  Query command = db.query(
      "SELECT command FROM process ORDER BY id NOT IN (SELECT process_id FROM step), rank IS NULL, "
      "rank, id LIMIT 1");
  if (command.next()) recording.command = clean(command.text(0));
  recording.ranks = db.query_integer("SELECT COUNT(DISTINCT rank) FROM process").value_or(0);
  recording.processes = db.query_integer("SELECT COUNT(*) FROM process").value_or(0);
  recording.complete =
      db.meta("incomplete") != "1" &&
      db.query_integer("SELECT COUNT(*) FROM process WHERE complete = 0").value_or(0) == 0;
  Query losses = db.query("SELECT rank, source, kind, count FROM loss_nonzero ORDER BY 1, 2, 3");
  while (losses.next()) {
    recording.losses.push_back({losses.optional_integer(0), clean(losses.text(1)),
                                clean(losses.text(2)), losses.integer(3)});
  }
  for (const char* table : kTables) {
    recording.rows.emplace_back(
        table, db.query_integer(fmt::format("SELECT COUNT(*) FROM {}", table)).value_or(0));
  }
  return recording;
}

Step view_step(const FoldedStep& folded) {
  Step step;
  step.rank = folded.rank;
  step.world_size = folded.world_size;
  step.source = folded.source;
  step.steps_total = folded.steps_total;
  step.steps_used = folded.steps_used;
  step.wall_ns = std::llround(folded.wall_ns);
  step.wall_mad_ns = std::llround(folded.wall_mad_ns);
  step.streams = static_cast<int32_t>(folded.streams.size());
  for (const StepOp& op : folded.ops) {
    TimelineOp view{op.ordinal,
                    clean(op.name),
                    preserve::to_text(op.kind),
                    op.stream,
                    std::llround(op.start_ns),
                    std::llround(op.dur_ns),
                    std::llround(op.mad_ns)};
    for (const StepAccess& access : op.accesses) {
      if (access.mode != AccessMode::read) continue;
      const TensorRole role = folded.tensors.at(static_cast<size_t>(access.tensor)).role;
      if (role == TensorRole::weight) view.weight_bytes += access.bytes;
      if (role == TensorRole::kv) view.kv_bytes += access.bytes;
    }
    step.ops.push_back(std::move(view));
  }
  return step;
}

// All schedules of one report are drawn over the same folded step.
void require_one_rank(const std::vector<ScheduleInput>& schedules) {
  const ScheduleInput& first = schedules.front();
  for (const ScheduleInput& input : schedules) {
    if (input.schedule.rank == first.schedule.rank) continue;
    throw input_error("{} is for rank {}, {} for rank {}: make one report for each",
                      first.file.path.string(), first.schedule.rank, input.file.path.string(),
                      input.schedule.rank);
  }
}

// The early one, or one made here, which goes to `made`.
const FoldedStep& fold_reported(const TraceDb& db, const InputSet& inputs, FoldedStep& made) {
  if (inputs.schedules.empty()) return made = fold_step(db);
  require_one_rank(inputs.schedules);
  const PlannedStep planned = planned_step(inputs.schedules.front().schedule);
  const auto& early = inputs.early_step;
  if (early && early->planned == planned) return early->folded.get();
  return made = fold_planned(db, planned);
}

Known<Step> fold(const TraceDb& db, const InputSet& inputs, std::vector<Warning>& warnings) {
  try {
    FoldedStep made;
    const FoldedStep& folded = fold_reported(db, inputs, made);
    for (const std::string& text : folded.warnings) {
      warnings.push_back({clean(db.file()), clean(text)});
    }
    for (const ScheduleInput& input : inputs.schedules) {
      check_schedule(input.schedule, input.file.path, folded);
    }
    return {view_step(folded), ""};
  } catch (const NoStepError& error) {
    // A recording without a step is still worth reading; a schedule without its step is not.
    if (!inputs.schedules.empty()) throw;
    return Known<Step>::unknown(clean(error.what(), 1000));
  }
}

void warn_of_recording(const Recording& recording, const std::string& file,
                       std::vector<Warning>& warnings) {
  if (!recording.complete) {
    warnings.push_back(
        {file, "the recording was cut short: its last records are missing", Severity::serious});
  }
}

void add_scenarios(const InputSet& inputs, Report& report) {
  std::map<std::string, int> label_uses;
  for (size_t s = 0; s < inputs.schedules.size(); ++s) {
    std::vector<const ReplayInput*> replays;
    for (const ReplayInput& replay : inputs.replays) {
      if (replay.schedule == s) replays.push_back(&replay);
    }
    if (replays.empty()) replays.push_back(nullptr);
    for (const ReplayInput* replay : replays) {
      report.scenarios.push_back(
          build_scenario(inputs.schedules[s], replay, *report.step, report.warnings));
      ++label_uses[report.scenarios.back().label];
    }
  }
  for (Scenario& scenario : report.scenarios) {
    report.sentences.push_back(scenario.sentence);
    if (label_uses[scenario.label] > 1) {  // two of a kind: the file tells them apart
      scenario.label += fmt::format(
          ", {}", scenario.measured ? scenario.measured->replay_path : scenario.schedule_path);
    }
  }
}

// One sentence of two schedules is one warning with two sources.
void merge_warnings(std::vector<Warning>& warnings) {
  std::vector<Warning> merged;
  for (Warning& warning : warnings) {
    const auto same = std::ranges::find(merged, warning.text, &Warning::text);
    if (same == merged.end()) {
      merged.push_back(std::move(warning));
    } else if (std::string_view(same->source).find(warning.source) == std::string_view::npos) {
      same->source += fmt::format(", {}", warning.source);
    }
  }
  std::ranges::stable_sort(merged, {}, &Warning::severity);
  warnings = std::move(merged);
}

std::string nothing_planned(const Report& report) {
  if (!report.step) {
    return fmt::format("Recorded only, nothing can be planned: {}.", report.step.reason);
  }
  return fmt::format(
      "Recorded only: a decode step lasts {} (median of {} of rank {}); no schedule was "
      "given, so nothing is planned or measured.",
      format_duration(report.step->wall_ns), count_of(report.step->steps_used, "step"),
      report.step->rank);
}

template <typename A, typename B>
void require_equal(const A& a, const B& b, const char* what) {
  if (a != b) throw internal_error("the report does not add up: {}: {} is not {}", what, a, b);
}

// The totals of each part, and the changes between them.
void check_why(const Scenario& scenario) {
  std::map<std::string, int64_t> reached_ns;
  for (const WhyBar& bar : scenario.why) {
    const auto at = reached_ns.find(bar.part);
    if (bar.total && at != reached_ns.end()) require_equal(bar.dur_ns, at->second, "why a step");
    if (bar.total) {
      reached_ns[bar.part] = bar.dur_ns;
    } else {
      reached_ns[bar.part] += bar.dur_ns;
    }
  }
}

void check_scenario(const Scenario& scenario) {
  check_why(scenario);
  int64_t bytes = 0;
  for (const Window& window : scenario.plan.windows) {
    int64_t in_window = 0;
    for (const Prefetch& prefetch : window.prefetches) in_window += prefetch.length_bytes;
    require_equal(in_window, window.used_bytes, "bytes of a window");
    bytes += in_window;
  }
  require_equal(bytes, scenario.plan.prefetched_bytes, "bytes of the plan");
  for (const int64_t resident : scenario.plan.occupancy_bytes) {
    if (resident < 0) throw internal_error("the report does not add up: {} cached bytes", resident);
  }
  if (!scenario.measured) return;
  for (const Arm& arm : scenario.measured->arms) {
    if (arm.step_ns && !(arm.step_ns->low <= arm.step_ns->estimate &&
                         arm.step_ns->estimate <= arm.step_ns->high)) {
      throw internal_error("the report does not add up: arm {} lies outside its interval",
                           arm.name);
    }
  }
}

}  // namespace

std::vector<Machine> read_machines(const TraceDb& db) {
  std::vector<Machine> machines;
  std::set<std::string> hosts;
  Query devices = db.query(
      "SELECT host, name, cache_bytes, memory_bandwidth_bytes_per_s, units, kind FROM device ORDER "
      "BY id");
  while (devices.next()) {
    machines.push_back({clean(devices.text(0)), clean(devices.text(1)), devices.optional_integer(2),
                        devices.optional_integer(3), devices.optional_integer(4),
                        devices.text(5) == "gpu"});
    hosts.insert(machines.back().host);
  }
  Query processes = db.query("SELECT DISTINCT host FROM process ORDER BY host");
  while (processes.next()) {
    const std::string host = clean(processes.text(0));
    if (hosts.insert(host).second) machines.push_back({host, "", {}, {}, {}});
  }
  return machines;
}

const char* to_text(Severity severity) {
  return std::array{"serious", "caution", "note"}.at(static_cast<size_t>(severity));
}

std::string describe(const Loss& loss) {
  return fmt::format("{} records of {}{}: {}", grouped(loss.count), loss.source,
                     loss.rank ? fmt::format(" on rank {}", *loss.rank) : "", loss.kind);
}

Report build_report(const InputSet& inputs) {
  const TraceDb db = TraceDb::open(inputs.trace.path);
  Report report;
  report.inputs.push_back(inputs.trace);
  for (const ScheduleInput& input : inputs.schedules) report.inputs.push_back(input.file);
  for (const ReplayInput& input : inputs.replays) report.inputs.push_back(input.file);
  report.recording = read_recording(db);
  warn_of_recording(report.recording, clean(db.file()), report.warnings);
  // Both read all operators, so each does it through a connection of its own, at the same time.
  std::future<TimeUse> time_use =
      std::async([&inputs] { return summarise_time(TraceDb::open(inputs.trace.path)); });
  report.step = fold(db, inputs, report.warnings);
  report.time_use = time_use.get();
  report.counters = summarise_counters(db);
  if (const std::string counters = clean(db.meta("counters")); !counters.empty()) {
    report.warnings.push_back(
        {clean(db.file()),
         fmt::format("recorded with --counters {}: kernels ran one by one, so no "
                     "time here is the program's; read the counters alone",
                     counters),
         Severity::serious});
  }
  if (report.step) add_scenarios(inputs, report);
  report.headlines = headlines(report.scenarios);
  if (report.sentences.empty()) report.sentences.push_back(nothing_planned(report));
  merge_warnings(report.warnings);
  check_consistency(report);
  return report;
}

void check_consistency(const Report& report) {
  for (const RankTime& rank : report.time_use.ranks) {
    int64_t sum_ns = 0;
    for (const ClassTime& time : rank.classes) {
      sum_ns += time.exclusive_ns;
      if (time.busy_ns < time.exclusive_ns) {
        throw internal_error(
            "the report does not add up: a class of {} is busy for less than its own time",
            rank.process);
      }
    }
    require_equal(sum_ns, rank.wall_ns, "attributed and idle time against wall time");
  }
  int64_t count = 0, total_ns = 0;
  for (const OperatorTotal& total : report.time_use.top) {
    count += total.count;
    total_ns += total.total_ns;
  }
  require_equal(count, report.time_use.operators, "operators by name");
  require_equal(total_ns, report.time_use.total_ns, "time of operators by name");
  for (const Scenario& scenario : report.scenarios) check_scenario(scenario);
}

}  // namespace preserve::report
