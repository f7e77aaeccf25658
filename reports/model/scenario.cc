// SPDX-License-Identifier: Apache-2.0
#include "reports/model/scenario.h"
#include "common/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "reports/model/machines.h"
#include "reports/model/tried_plans.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr double kSameSpeedup = 1e-4;    // two computations of one ratio agree at least so well
constexpr double kPoorFidelity = 0.1;    // of a replayed over a recorded step, from 1
constexpr size_t kSentenceLimit = 1000;  // sentences of our own tools are longer than names

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
                    {}});
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

// A number that the replay wrote as text; nothing when the key is absent.
std::optional<double> number_in_meta(const TraceDb& db, std::string_view key) {
  const std::string text = db.meta(key);
  if (text.empty()) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw input_error("{}: meta {} is '{}', not a number", db.file(), key, clean(text));
  }
  return value;
}

using PairTimes = std::map<int64_t, std::vector<double>>;  // pair -> step times of one arm

PairTimes pair_times(const TraceDb& db, const std::string& arm) {
  PairTimes times;
  Query rows =
      db.query("SELECT pair, step_ns FROM sample_counted WHERE arm = ? ORDER BY pair", {arm});
  while (rows.next()) {
    if (rows.integer(1) <= 0) throw input_error("{}: a step of {} ns", db.file(), rows.integer(1));
    times[rows.integer(0)].push_back(rows.real(1));
  }
  return times;
}

Arm summarise_arm(const TraceDb& db, const std::string& raw_name, const PairTimes& baseline,
                  double level) {
  Arm arm{.name = clean(raw_name)};
  const PairTimes times = pair_times(db, raw_name);
  std::vector<double> all, paired, ratios;
  for (const auto& [pair, values] : times) {
    all.insert(all.end(), values.begin(), values.end());
    const auto partner = baseline.find(pair);
    if (partner == baseline.end()) continue;
    paired.insert(paired.end(), values.begin(), values.end());
    ratios.push_back(median(partner->second) / median(values));
  }
  arm.samples = static_cast<int64_t>(all.size());
  arm.pairs = static_cast<int64_t>(ratios.size());
  arm.step_ns.reason = "every sample was discarded";
  if (!all.empty()) {
    // Of the pairs that the speed-up is of, or the two would contradict each other.
    const std::vector<double>& shown = paired.empty() ? all : paired;
    Interval interval = bootstrap_median(shown, level);
    if (shown.size() < kFewestPairs) interval.low = interval.high = interval.estimate;
    arm.step_ns = {interval, ""};
  }
  if (raw_name == "baseline") {
    arm.speedup.reason = "it is what the others are compared with";
  } else if (ratios.size() < kFewestPairs) {
    arm.speedup.reason = fmt::format("{} counted with the baseline, {} are needed",
                                     count_of(arm.pairs, "pair"), kFewestPairs);
  } else {
    arm.speedup = {bootstrap_median(ratios, level), ""};
  }
  Query rows = db.query(
      "SELECT discarded, COUNT(*) FROM sample JOIN arm ON arm.id = arm_id "
      "WHERE arm.name = ? AND discarded IS NOT NULL GROUP BY 1",
      {raw_name});
  while (rows.next()) arm.discarded[clean(rows.text(0))] += rows.integer(1);
  return arm;
}

std::vector<Arm> summarise_arms(const TraceDb& db) {
  const double level = number_in_meta(db, "confidence_level").value_or(0.95);
  if (!(level > 0 && level < 1)) {
    throw input_error("{}: confidence_level {} in meta is not between 0 and 1", db.file(), level);
  }
  std::vector<std::string> names;
  Query rows = db.query("SELECT name FROM arm ORDER BY id");
  while (rows.next()) names.emplace_back(rows.text(0));
  const PairTimes baseline = pair_times(db, "baseline");
  std::vector<Arm> arms;
  for (const std::string& name : names) arms.push_back(summarise_arm(db, name, baseline, level));
  return arms;
}

const Arm* find_arm(const std::vector<Arm>& arms, const char* name) {
  const auto found =
      std::find_if(arms.begin(), arms.end(), [&](const Arm& a) { return a.name == name; });
  return found == arms.end() ? nullptr : &*found;
}

// Per-operator times of the planned rank, or of the lowest replayed rank.
void read_operator_times(const TraceDb& db, int64_t rank, std::vector<OperatorTimes>& rows,
                         std::vector<Warning>& warnings) {
  const bool has_rank =
      db.query_integer("SELECT 1 FROM arm_op WHERE rank = ? LIMIT 1", {rank}).has_value();
  if (!has_rank) rank = db.query_integer("SELECT MIN(rank) FROM arm_op").value_or(rank);
  Query times = db.query(
      "SELECT arm.name, ordinal, median_ns FROM arm_op JOIN arm ON arm.id = arm_id "
      "WHERE rank = ? AND arm.name IN ('baseline', 'prefetch')",
      {rank});
  int64_t foreign = 0;
  while (times.next()) {
    const int64_t ordinal = times.integer(1);
    if (ordinal < 0 || ordinal >= static_cast<int64_t>(rows.size())) {
      ++foreign;
      continue;
    }
    OperatorTimes& row = rows[static_cast<size_t>(ordinal)];
    (times.text(0) == "baseline" ? row.baseline_ns : row.prefetch_ns) = times.integer(2);
  }
  if (foreign > 0) {
    warnings.push_back(
        {clean(db.file()), fmt::format("{} replayed operators are not in the step and "
                                       "were left out",
                                       foreign)});
  }
}

void read_warnings(const TraceDb& db, std::vector<Warning>& warnings) {
  const std::string text = db.meta("warnings");
  if (text.empty()) return;
  const nlohmann::json list = nlohmann::json::parse(text, nullptr, false);
  if (!list.is_array()) throw input_error("{}: meta warnings is not a JSON array", db.file());
  for (const nlohmann::json& item : list) {
    if (!item.is_string()) throw input_error("{}: a warning in meta is not a text", db.file());
    warnings.push_back({clean(db.file()), clean(item.get<std::string>(), kSentenceLimit)});
  }
}

Known<Fidelity> judge_fidelity(const TraceDb& db, const Measured& measured,
                               const Scenario& scenario) {
  const Arm* baseline = find_arm(measured.arms, "baseline");
  if (baseline == nullptr || !baseline->step_ns) {
    return Known<Fidelity>::unknown("the replay has no counted baseline sample");
  }
  // The replay knows the slowest rank; the schedule only its own.
  const double recorded_ns = number_in_meta(db, "recorded_step_ns")
                                 .value_or(static_cast<double>(scenario.plan.baseline_step_ns));
  if (recorded_ns <= 0) return Known<Fidelity>::unknown("the recorded step has no length");
  Fidelity fidelity;
  fidelity.step = baseline->step_ns->estimate / recorded_ns;
  std::vector<double> ratios;
  for (const OperatorTimes& op : scenario.operators) {
    if (op.kind == "collective" || !op.baseline_ns || op.recorded_ns.value_or(0) <= 0) continue;
    ratios.push_back(static_cast<double>(*op.baseline_ns) / static_cast<double>(*op.recorded_ns));
  }
  fidelity.operators.reason = "the replay has no times per operator";
  fidelity.operators_p10 = fidelity.operators_p90 = fidelity.operators;
  if (!ratios.empty()) {
    fidelity.operators = {median(ratios), ""};
    fidelity.operators_p10 = {quantile(ratios, 0.1), ""};
    fidelity.operators_p90 = {quantile(ratios, 0.9), ""};
  }
  return {fidelity, ""};
}

// Of the windows that carry prefetches.
Known<double> collective_slowdown(const Scenario& scenario) {
  double baseline_ns = 0, prefetch_ns = 0;
  for (const Window& window : scenario.plan.windows) {
    const OperatorTimes& op = scenario.operators[static_cast<size_t>(window.ordinal)];
    if (window.prefetches.empty() || !op.baseline_ns || !op.prefetch_ns) continue;
    baseline_ns += static_cast<double>(*op.baseline_ns);
    prefetch_ns += static_cast<double>(*op.prefetch_ns);
  }
  if (baseline_ns <= 0) {
    return Known<double>::unknown("no window with a prefetch was timed in both arms");
  }
  return {prefetch_ns / baseline_ns, ""};
}

Measured measure(const ReplayInput& replay, int64_t rank, Scenario& scenario,
                 std::vector<Warning>& warnings) {
  const TraceDb db = TraceDb::open(replay.file.path);
  Measured measured;
  measured.replay_path = clean(replay.file.path.string());
  Query meta = db.query(
      "SELECT key, value FROM meta WHERE key NOT IN ('finished', 'warnings') ORDER BY key");
  while (meta.next()) measured.facts.push_back({clean(meta.text(0)), clean(meta.text(1))});
  measured.machines = read_machines(db);
  read_warnings(db, warnings);
  measured.arms = summarise_arms(db);
  read_operator_times(db, rank, scenario.operators, warnings);
  const Arm* prefetch = find_arm(measured.arms, "prefetch");
  if (prefetch == nullptr) {
    measured.speedup.reason = "the replay has no prefetch arm";
  } else {
    measured.speedup = prefetch->speedup;
  }
  measured.prediction_error.reason = measured.speedup.reason;
  if (measured.speedup) {
    // Times of ranks that lost their cores come in whole time slices: their interval is narrow and
    // says nothing, so the replay does not judge by it and neither does the report.
    measured.busy = db.meta("interrupted_kept") == "1";
    measured.verdict =
        to_string(measured.busy ? Verdict::ambiguous : judge_speedup(*measured.speedup));
    measured.prediction_error = {scenario.plan.speedup / measured.speedup->estimate - 1, ""};
  }
  const std::optional<double> stated = number_in_meta(db, "prefetch_speedup");
  if (measured.speedup && stated &&
      std::fabs(*stated - measured.speedup->estimate) > kSameSpeedup) {
    warnings.push_back({measured.replay_path,
                        fmt::format("states a speed-up of {:.4f}, but its samples give {:.4f}",
                                    *stated, measured.speedup->estimate)});
  }
  measured.fidelity = judge_fidelity(db, measured, scenario);
  if (measured.fidelity && std::fabs(measured.fidelity->step - 1) > kPoorFidelity) {
    warnings.push_back({measured.replay_path,
                        fmt::format("the replayed baseline lasts {} the recorded step, so its "
                                    "verdict says little about the program; record and replay on a "
                                    "quiet machine",
                                    format_ratio(measured.fidelity->step))});
  }
  measured.collective_slowdown = collective_slowdown(scenario);
  return measured;
}

// What carried the collectives. Whatever is not a real library with real ranks is named a stand-in.
std::string label_of(int64_t link_latency_ns, const ReplayInput* replay) {
  const std::string carrier =
      replay == nullptr ? "" : clean(TraceDb::open(replay->file.path).meta("collective"));
  if (link_latency_ns > 0) {
    const bool collectives = carrier.rfind("stand-in", 0) == 0;
    return fmt::format("{} stand-in link{}", short_duration(link_latency_ns),
                       collectives ? " and stand-in collectives" : "");
  }
  if (carrier.empty() || carrier == "mpi" || carrier == "nccl") return "real collectives";
  if (carrier == "stand-in") return "stand-in collectives";
  return fmt::format("stand-in collectives ({})", carrier);
}

std::string verdict_sentence(const Scenario& scenario) {
  const std::string with =
      fmt::format("with {}{}", scenario.link_latency_ns > 0 ? "a " : "", scenario.label);
  // The planner gives the reason for its verdict last.
  const std::string reason =
      scenario.plan.reasons.empty() ? "" : fmt::format(" ({})", scenario.plan.reasons.back());
  const bool measured = scenario.measured && scenario.measured->speedup;
  std::string result;
  if (measured) {
    const std::string& verdict = scenario.measured->verdict;
    const char* meaning = verdict == "SAME"         ? " (a difference nobody would notice)"
                          : scenario.measured->busy ? " (the machine was too busy to decide)"
                          : verdict == "AMBG"       ? " (the samples do not decide)"
                                                    : "";
    result = fmt::format("{} {}: {}{}", describe_speedup(*scenario.measured->speedup), with,
                         verdict, meaning);
  }
  if (scenario.plan.verdict == "do-nothing") {
    return fmt::format("Planned: do nothing {}{}.{}", with, reason,
                       measured ? fmt::format(" Replayed all the same, it is {}.", result) : "");
  }
  if (measured) return fmt::format("Measured: the tuned schedule is {}.", result);
  const std::string why =
      scenario.measured ? scenario.measured->speedup.reason : scenario.measured.reason;
  return fmt::format("Not measured ({}): the plan predicts {} {}.", why,
                     describe_speedup(scenario.plan.speedup), with);
}

}  // namespace

std::string short_duration(int64_t dur_ns) {
  const auto value = static_cast<double>(dur_ns);
  if (dur_ns < 1'000) return fmt::format("{} ns", dur_ns);
  if (dur_ns < 1'000'000) return fmt::format("{:g} us", value / 1e3);
  return fmt::format("{:g} ms", value / 1e6);
}

Scenario build_scenario(const ScheduleInput& input, const ReplayInput* replay, const Step& step,
                        std::vector<Warning>& warnings) {
  Scenario scenario;
  scenario.link_latency_ns = input.schedule.link_latency_ns;
  scenario.label = label_of(scenario.link_latency_ns, replay);
  scenario.schedule_path = clean(input.file.path.string());
  scenario.schedule_sha256 = input.file.sha256;
  scenario.plan = view_plan(input.schedule, step.ops.size());
  scenario.operators = expected_operators(step, scenario);
  for (const std::string& text : input.schedule.warnings) {
    warnings.push_back({scenario.schedule_path, clean(text, kSentenceLimit)});
  }
  const auto peak =
      std::max_element(scenario.plan.occupancy_bytes.begin(), scenario.plan.occupancy_bytes.end());
  if (peak != scenario.plan.occupancy_bytes.end() && *peak > scenario.plan.budget_bytes) {
    warnings.push_back({scenario.schedule_path,
                        fmt::format("keeps up to {} in a cache budget of {}", format_size(*peak),
                                    format_size(scenario.plan.budget_bytes))});
  }
  if (replay == nullptr) {
    scenario.measured.reason = "no replay.db of this schedule was given";
  } else {
    scenario.measured = {measure(*replay, input.schedule.rank, scenario, warnings), ""};
  }
  scenario.sentence = verdict_sentence(scenario);
  return scenario;
}

}  // namespace preserve::report
