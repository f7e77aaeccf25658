// SPDX-License-Identifier: Apache-2.0
#include "db/replay_result.h"

#include <algorithm>

#include "common/text.h"
#include "common/units.h"
#include "db/columns.h"

namespace preserve {
namespace {

using ArmColumn = Column<ArmResult>;
constexpr std::array kArmColumns{
    ArmColumn{"name", &ArmResult::name},       ArmColumn{"counted", &ArmResult::counted},
    ArmColumn{"pairs", &ArmResult::pairs},     ArmColumn{"step_ns", &ArmResult::step_ns},
    ArmColumn{"speedup", &ArmResult::speedup}, ArmColumn{"issued_bytes", &ArmResult::issued_bytes},
};

using R = ReplayResult;
using ResultColumn = Column<ReplayResult>;
constexpr std::array kResultColumns{
    ResultColumn{"passes", &R::passes},
    ResultColumn{"steps_per_sample", &R::steps_per_sample, 1},
    ResultColumn{"confidence_level", &R::confidence_level, kPositive},
    ResultColumn{"stop_reason", &R::stop_reason},
    ResultColumn{"busy", &R::busy},
    ResultColumn{"verdict", &R::verdict},
    ResultColumn{"winner", &R::winner},
    ResultColumn{"overlap_ratio", &R::overlap_ratio},
    ResultColumn{"ranks", &R::ranks, 1},
    ResultColumn{"recorded_ranks", &R::recorded_ranks},
    ResultColumn{"link_latency_ns", &R::link_latency_ns},
    ResultColumn{"planned_bytes", &R::planned_bytes},
    ResultColumn{"recorded_step_ns", &R::recorded_step_ns},
    ResultColumn{"fidelity", &R::fidelity},
    ResultColumn{"fidelity_op_median", &R::fidelity_op_median},
    ResultColumn{"fidelity_op_p10", &R::fidelity_op_p10},
    ResultColumn{"fidelity_op_p90", &R::fidelity_op_p90},
    ResultColumn{"fidelity_op_worst", &R::fidelity_op_worst},
    ResultColumn{"fidelity_op_worst_name", &R::fidelity_op_worst_name},
    ResultColumn{"predicted_speedup", &R::predicted_speedup, kPositive},
    ResultColumn{"predicted_baseline_step_ns", &R::predicted_baseline_step_ns},
    ResultColumn{"predicted_prefetch_step_ns", &R::predicted_prefetch_step_ns},
    ResultColumn{"prediction_error", &R::prediction_error, kAnyValue},
    ResultColumn{"predicted_saved_ns", &R::predicted_saved_ns},
    ResultColumn{"realised_saved_ns", &R::realised_saved_ns, kAnyValue},
    ResultColumn{"collective_slowdown", &R::collective_slowdown},
    ResultColumn{"slowdown_per_byte_ns", &R::slowdown_per_byte_ns},
};

// Without those that are NULL.
template <typename Row, size_t N>
void add_facts(const std::string& prefix, const std::array<Column<Row>, N>& columns, const Row& row,
               std::vector<std::pair<std::string, std::string>>& facts) {
  std::vector<SqlValue> values;
  append_values(columns, row, values);
  const std::string names = column_list(columns);
  size_t begin = 0;
  for (const SqlValue& value : values) {
    const size_t end = std::min(names.find(", ", begin), names.size());
    const std::string name = prefix + names.substr(begin, end - begin);
    begin = end + 2;
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      facts.emplace_back(name, fmt::format("{}", *integer));
    } else if (const auto* real = std::get_if<double>(&value)) {
      facts.emplace_back(name, fmt::format("{:.6f}", *real));
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      facts.emplace_back(name, *text);
    }
  }
}

}  // namespace

const ArmResult* ReplayResult::find_arm(std::string_view name) const {
  const auto found = std::ranges::find(arms, name, &ArmResult::name);
  return found == arms.end() ? nullptr : &*found;
}

void write_result(TraceDb& db, const ReplayResult& result) {
  for (const ArmResult& arm : result.arms) insert_row(db, "arm", kArmColumns, arm);
  insert_row(db, "result", kResultColumns, result);
  for (const std::string& text : result.warnings) {
    db.execute("INSERT INTO warning (text) VALUES (?)", {text});
  }
}

void write_sample(TraceDb& db, size_t arm, int64_t pair, int64_t position, int64_t step_ns,
                  const std::string& discarded) {
  db.execute(
      "INSERT INTO sample (arm_id, pair, position, step_ns, discarded) VALUES (?, ?, ?, ?, ?)",
      {static_cast<int64_t>(arm + 1), pair, position, step_ns,
       discarded.empty() ? SqlValue(nullptr) : SqlValue(discarded)});
}

ReplayResult read_result(const TraceDb& db) {
  const std::string kind = db.meta("kind");
  if (kind != kReplayed && kind != kApplied) {
    throw input_error("{}: is neither a replay.db nor an apply.db", db.file());
  }
  ReplayResult result;
  result.applied = kind == kApplied;
  Query row = db.query(fmt::format("SELECT {} FROM result", column_list(kResultColumns)));
  if (!row.next()) throw input_error("{}: holds no result of a replay", db.file());
  read_columns(row, 0, kResultColumns, result);
  if (result.confidence_level >= 1) {
    throw input_error("{}: is damaged: confidence_level is {}", db.file(), result.confidence_level);
  }
  Query arms = db.query(fmt::format("SELECT {} FROM arm ORDER BY id", column_list(kArmColumns)));
  while (arms.next()) read_columns(arms, 0, kArmColumns, result.arms.emplace_back());
  Query warnings = db.query("SELECT text FROM warning ORDER BY id");
  while (warnings.next()) result.warnings.emplace_back(warnings.text(0));
  result.device_name = db.meta("device_name");
  result.executor = db.meta("executor");
  result.collective = db.meta("collective");
  return result;
}

std::vector<std::pair<std::string, std::string>> facts_of(const ReplayResult& result) {
  std::vector<std::pair<std::string, std::string>> facts;
  add_facts("", kResultColumns, result, facts);
  for (const ArmResult& arm : result.arms) add_facts(arm.name + "_", kArmColumns, arm, facts);
  return facts;
}

std::string short_duration(int64_t dur_ns) {
  const auto value = static_cast<double>(dur_ns);
  if (dur_ns < 1'000) return fmt::format("{} ns", dur_ns);
  if (dur_ns < 1'000'000) return fmt::format("{:g} us", value / 1e3);
  return fmt::format("{:g} ms", value / 1e6);
}

std::string conditions_text(int64_t link_latency_ns, std::string_view collective) {
  const bool stand_in = collective.starts_with("stand-in");
  if (link_latency_ns > 0) {
    return fmt::format("{} stand-in link{}", short_duration(link_latency_ns),
                       stand_in ? " and stand-in collectives" : "");
  }
  if (collective.empty() || collective == "mpi" || collective == "nccl") return "real collectives";
  if (collective == "stand-in") return "stand-in collectives";
  return fmt::format("stand-in collectives ({})", printable(collective));
}

std::string undecided_reason(const ReplayResult& result) {
  const ArmResult* prefetch = result.find_arm(kPrefetchArm);
  if (prefetch == nullptr) return "the replay has no prefetch arm";
  if (prefetch->speedup && prefetch->speedup->interval()) return "";
  return fmt::format("{} counted with the baseline, {} are needed",
                     count_of(prefetch->pairs, "pair"), kFewestPairs);
}

std::string verdict_text(const ReplayResult& result) {
  if (!undecided_reason(result).empty()) throw internal_error("a verdict without an interval");
  const char* meaning = result.verdict == Verdict::same ? " (a change of less than half a percent)"
                        : result.busy                   ? " (the machine was too busy to decide)"
                        : result.verdict == Verdict::ambiguous ? " (the samples do not decide)"
                                                               : "";
  return fmt::format("{} with {}{}: {}{}",
                     describe_speedup(*result.find_arm(kPrefetchArm)->speedup->interval()),
                     result.link_latency_ns > 0 ? "a " : "",
                     conditions_text(result.link_latency_ns, result.collective),
                     to_string(result.verdict), meaning);
}

}  // namespace preserve
