// SPDX-License-Identifier: Apache-2.0
#include "reports/model/parts.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"
#include "db/replay_result.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr double kPoorFidelity = 0.1;    // of a replayed over a recorded step, from 1
constexpr size_t kSentenceLimit = 1000;  // sentences of our own tools are longer than names
constexpr int64_t kTakenSamples = 4000;  // of one arm; more make no other picture

// Adds what the prefetches of one window keep in the cache after each operator (a ring: a prefetch
// for the next step stays over the step's end).
void add_residency(const Window& window, std::vector<int64_t>& change, int64_t& carried) {
  for (const Prefetch& prefetch : window.prefetches) {
    const bool wraps = prefetch.next_step || prefetch.consumer_ordinal <= window.ordinal;
    if (wraps) carried = checked_add(carried, prefetch.length_bytes, "cached bytes");
    change[static_cast<size_t>(window.ordinal)] += prefetch.length_bytes;
    change[static_cast<size_t>(prefetch.consumer_ordinal)] -= prefetch.length_bytes;
  }
}

std::vector<int64_t> occupancy(const std::vector<Window>& windows, size_t operators) {
  std::vector<int64_t> change(operators, 0);
  int64_t resident = 0;
  for (const Window& window : windows) add_residency(window, change, resident);
  std::vector<int64_t> after(operators);
  for (size_t i = 0; i < operators; ++i) {
    resident = checked_add(resident, change[i], "cached bytes");
    after[i] = resident;
  }
  return after;
}

Window view_window(const PlannedWindow& planned) {
  Window window{planned.ordinal, clean(planned.name), clean(planned.binds)};
  window.usable_ns = planned.usable_ns;
  window.capacity_bytes = planned.capacity_bytes;
  window.used_bytes = planned.used_bytes;
  window.shadow_price_ns_per_mib = planned.shadow_price_ns_per_mib;
  double saved_ns = 0;
  for (const PlannedPrefetch& p : planned.prefetches) {
    saved_ns += p.predicted_saved_ns;
    window.prefetches.push_back({clean(p.tensor), clean(p.consumer), p.consumer_ordinal,
                                 p.next_step, p.offset_bytes, p.length_bytes,
                                 std::llround(p.predicted_saved_ns)});
  }
  window.predicted_saved_ns = std::llround(saved_ns);
  return window;
}

PlanView view_plan(const Schedule& schedule, size_t operators) {
  PlanView view;
  view.strategy = to_string(schedule.plan.strategy);
  view.verdict = to_string(schedule.plan.verdict);
  for (const std::string& reason : schedule.plan.reasons)
    view.reasons.push_back(clean(reason, kSentenceLimit));
  view.device = clean(schedule.device_name);
  const IssueMethod& method = method_of(schedule, schedule.plan);
  view.method = clean(method.name);
  view.placement = clean(method.placement);
  view.chunk_bytes = method.chunk_bytes;
  view.tried = tried_plans(schedule);
  view.budget_bytes = schedule.budget_bytes;
  view.seed = static_cast<int64_t>(schedule.seed);
  view.baseline_step_ns = schedule.plan.baseline_step_ns;
  view.prefetch_step_ns = schedule.plan.prefetch_step_ns;
  view.speedup = schedule.plan.speedup;
  view.all_hot_step_ns = schedule.all_hot_step_ns;
  view.window_limited_step_ns = schedule.window_limited_step_ns;
  view.cache_limited_step_ns = schedule.cache_limited_step_ns;
  view.cache_peak_bytes = schedule.plan.cache_peak_bytes;
  view.cache_shadow_price_ns_per_mib = schedule.plan.cache_shadow_price_ns_per_mib;
  for (const PlannedWindow& window : schedule.plan.windows) {
    view.windows.push_back(view_window(window));
    view.prefetched_bytes = checked_add(view.prefetched_bytes, window.used_bytes, "planned bytes");
  }
  view.occupancy_bytes = occupancy(view.windows, operators);
  return view;
}

// What the model expects of each operator with the plan in place: the recorded time, the stand-in
// link on collectives, less what its prefetches save.
std::vector<OperatorTimes> expected_operators(const Step& step, const Scenario& scenario) {
  std::vector<OperatorTimes> rows;
  for (const TimelineOp& op : step.ops) {
    const int64_t link_ns = op.kind == "collective" ? scenario.link_latency_ns : 0;
    rows.push_back({op.ordinal,
                    op.name,
                    op.kind,
                    op.dur_ns,
                    checked_add(op.dur_ns, link_ns, "predicted time"),
                    {},
                    {},
                    {},
                    op.weight_bytes + op.kv_bytes});
  }
  for (const Window& window : scenario.plan.windows) {
    for (const Prefetch& prefetch : window.prefetches) {
      int64_t& predicted_ns = *rows[static_cast<size_t>(prefetch.consumer_ordinal)].predicted_ns;
      predicted_ns = std::max<int64_t>(0, predicted_ns - prefetch.predicted_saved_ns);
    }
  }
  return rows;
}

// --- the replay ----------------------------------------------------------------------------------

Known<Interval> known_interval(const std::optional<Estimated>& value, const std::string& reason) {
  return Known<Interval>::of(value ? value->interval() : std::nullopt, reason);
}

void read_samples(const TraceDb& db, const std::string& name, Arm& arm) {
  const int64_t count =
      db.query_integer("SELECT COUNT(*) FROM sample JOIN arm ON arm.id = arm_id WHERE name = ?",
                       {name})
          .value_or(0);
  arm.taken_every = std::max<int64_t>(1, (count + kTakenSamples - 1) / kTakenSamples);
  Query rows = db.query(
      "SELECT pair, sample.step_ns, discarded FROM sample JOIN arm ON arm.id = arm_id "
      "WHERE name = ? ORDER BY sample.id",
      {name});
  for (int64_t i = 0; rows.next(); ++i) {
    const bool discarded = !rows.is_null(2);
    if (discarded) ++arm.discarded[clean(rows.text(2))];
    // By pass, not by place in this arm, so that the pairs of two thinned arms still meet.
    if (rows.integer(0) % arm.taken_every != 0) continue;
    arm.taken.push_back(
        {rows.integer(0), rows.integer(1), discarded ? clean(rows.text(2)) : std::string()});
  }
}

// As the replay decided; nothing is computed from samples here.
Arm view_arm(const TraceDb& db, const ArmResult& result) {
  Arm arm{.name = clean(result.name)};
  arm.samples = result.counted;
  arm.pairs = result.pairs;
  arm.step_ns.reason = "every sample was discarded";
  if (result.step_ns) {
    const double median_ns = result.step_ns->estimate;
    arm.step_ns = {result.step_ns->interval().value_or(Interval{median_ns, median_ns, median_ns}),
                   ""};
    if (!(arm.step_ns->low <= median_ns && median_ns <= arm.step_ns->high)) {
      throw input_error("{}: is damaged: the step of arm {} lies outside its interval", db.file(),
                        arm.name);
    }
  }
  arm.speedup = known_interval(result.speedup,
                               result.name == kBaselineArm
                                   ? "it is what the others are compared with"
                                   : fmt::format("{} counted with the baseline, {} are needed",
                                                 count_of(arm.pairs, "pair"), kFewestPairs));
  arm.issued_bytes = result.issued_bytes;
  read_samples(db, result.name, arm);
  return arm;
}

// Per-operator times of the planned rank, or of the lowest replayed rank.
void read_operator_times(const TraceDb& db, int64_t rank, std::vector<OperatorTimes>& rows,
                         std::vector<Warning>& warnings) {
  const bool has_rank =
      db.query_integer("SELECT 1 FROM arm_op WHERE rank = ? LIMIT 1", {rank}).has_value();
  if (!has_rank) rank = db.query_integer("SELECT MIN(rank) FROM arm_op").value_or(rank);
  int64_t foreign = 0;
  const auto read = [&](const char* arm, std::optional<int64_t> OperatorTimes::*time_ns) {
    Query times = db.query(
        "SELECT ordinal, median_ns FROM arm_op "
        "WHERE arm_id IN (SELECT id FROM arm WHERE name = ?) AND rank = ?",
        {std::string(arm), rank});
    while (times.next()) {
      const int64_t ordinal = times.integer(0);
      if (ordinal < 0 || ordinal >= static_cast<int64_t>(rows.size())) {
        ++foreign;
        continue;
      }
      rows[static_cast<size_t>(ordinal)].*time_ns = times.integer(1);
    }
  };
  read("baseline", &OperatorTimes::baseline_ns);
  read("prefetch", &OperatorTimes::prefetch_ns);
  read("hot", &OperatorTimes::hot_ns);
  if (foreign > 0) {
    warnings.push_back(
        {clean(db.file()), fmt::format("{} replayed operators are not in the step and "
                                       "were left out",
                                       foreign)});
  }
}

Known<Fidelity> view_fidelity(const ReplayResult& result) {
  if (!result.fidelity) {
    return Known<Fidelity>::unknown("the replay has no counted baseline sample");
  }
  const char* reason = "the replay has no times per operator";
  return {Fidelity{*result.fidelity, Known<double>::of(result.fidelity_op_median, reason),
                   Known<double>::of(result.fidelity_op_p10, reason),
                   Known<double>::of(result.fidelity_op_p90, reason)},
          ""};
}

std::vector<NamedText> read_facts(const TraceDb& db, const ReplayResult& result) {
  std::map<std::string, std::string> facts;
  for (const auto& [name, value] : facts_of(result)) facts[name] = clean(value);
  Query meta = db.query("SELECT key, value FROM meta WHERE key <> 'finished'");
  while (meta.next()) facts[clean(meta.text(0))] = clean(meta.text(1));
  std::vector<NamedText> list;
  list.reserve(facts.size());
  for (const auto& [name, value] : facts) list.push_back({name, value});
  return list;
}

Measured view_replay(const TraceDb& db, const ReplayResult& result, int64_t rank,
                     Scenario& scenario, std::vector<Warning>& warnings) {
  Measured measured;
  measured.replay_path = clean(db.file());
  measured.applied = result.applied;
  measured.planned_bytes = result.planned_bytes;
  measured.facts = read_facts(db, result);
  measured.machines = read_machines(db);
  for (const std::string& text : result.warnings) {
    warnings.push_back({measured.replay_path, clean(text, kSentenceLimit)});
  }
  for (const ArmResult& arm : result.arms) measured.arms.push_back(view_arm(db, arm));
  read_operator_times(db, rank, scenario.operators, warnings);
  const ArmResult* prefetch = result.find_arm(kPrefetchArm);
  measured.speedup =
      known_interval(prefetch ? prefetch->speedup : std::nullopt, undecided_reason(result));
  measured.prediction_error.reason = measured.speedup.reason;
  if (measured.speedup) {
    measured.busy = result.busy;
    measured.verdict = to_string(result.verdict);
    measured.prediction_error = Known<double>::of(result.prediction_error, "nothing was predicted");
  }
  measured.fidelity = view_fidelity(result);
  if (measured.fidelity && std::fabs(measured.fidelity->step - 1) > kPoorFidelity) {
    const std::string ratio = format_ratio(measured.fidelity->step);
    warnings.push_back(
        {measured.replay_path,
         result.applied
             ? fmt::format("without the plan the program's step lasts {} the recorded one, so the "
                           "plan was made for another step; record again as the program runs now",
                           ratio)
             : fmt::format("the replayed baseline lasts {} the recorded step, so its verdict says "
                           "little about the program; record and replay on a quiet machine",
                           ratio),
         Severity::serious});
  }
  measured.collective_slowdown = Known<double>::of(
      result.collective_slowdown, "no window with a prefetch was timed in both arms");
  return measured;
}

// `result`: of the replay, when there is one.
std::string sentence_of(const Scenario& scenario, const ReplayResult* result) {
  const std::string with =
      fmt::format("with {}{}", scenario.link_latency_ns > 0 ? "a " : "", scenario.label);
  // The planner gives the reason for its verdict last.
  const std::string reason =
      scenario.plan.reasons.empty() ? "" : fmt::format(": {}", scenario.plan.reasons.back());
  const bool measured = scenario.measured && scenario.measured->speedup;
  const std::string found = measured ? clean(verdict_text(*result), kSentenceLimit) : "";
  if (scenario.plan.verdict == "do-nothing") {
    return fmt::format("Planned: do nothing {}{}.{}", with, reason,
                       measured ? fmt::format(" Replayed all the same, it is {}.", found) : "");
  }
  if (measured && result->applied) {
    return fmt::format("Applied: with the tuned schedule the program is {}.", found);
  }
  if (measured) return fmt::format("Measured: the tuned schedule is {}.", found);
  const std::string why =
      scenario.measured ? scenario.measured->speedup.reason : scenario.measured.reason;
  return fmt::format("Not measured ({}): the plan predicts {} {}.", why,
                     describe_speedup(scenario.plan.speedup), with);
}

}  // namespace

Scenario build_scenario(const ScheduleInput& input, const ReplayInput* replay, const Step& step,
                        std::vector<Warning>& warnings) {
  Scenario scenario;
  scenario.link_latency_ns = input.schedule.link_latency_ns;
  std::optional<TraceDb> db;
  std::optional<ReplayResult> result;
  if (replay != nullptr) {
    db = TraceDb::open(replay->file.path);
    result = read_result(*db);
  }
  scenario.label =
      clean(conditions_text(scenario.link_latency_ns, result ? result->collective : ""));
  if (result && result->applied) scenario.label += ", in the program itself";
  scenario.schedule_path = clean(input.file.path.string());
  scenario.schedule_sha256 = input.file.sha256;
  scenario.plan = view_plan(input.schedule, step.ops.size());
  scenario.operators = expected_operators(step, scenario);
  for (const std::string& text : input.schedule.warnings) {
    warnings.push_back({scenario.schedule_path, clean(text, kSentenceLimit)});
  }
  const auto peak = std::ranges::max_element(scenario.plan.occupancy_bytes);
  if (peak != scenario.plan.occupancy_bytes.end() && *peak > scenario.plan.budget_bytes) {
    warnings.push_back({scenario.schedule_path,
                        fmt::format("keeps up to {} in a cache budget of {}", format_size(*peak),
                                    format_size(scenario.plan.budget_bytes))});
  }
  if (result) {
    scenario.measured = {view_replay(*db, *result, input.schedule.rank, scenario, warnings), ""};
  } else {
    scenario.measured.reason = "no replay.db of this schedule was given";
  }
  scenario.sentence = sentence_of(scenario, result ? &*result : nullptr);
  scenario.why = explain(scenario);
  return scenario;
}

}  // namespace preserve::report
