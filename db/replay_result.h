// SPDX-License-Identifier: Apache-2.0
// What a replay found. preserve-replay computes it once from the samples and writes it into
// replay.db (tables result, arm and warning; schema.sql describes each column); its own summary,
// the grid, the closed loop of the planner and the report read it back and decide nothing anew.
// preserve-apply writes the same of the program itself into apply.db.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/stats.h"
#include "db/estimated.h"
#include "db/trace_db.h"

namespace preserve {

// meta kind of the two files that hold such a result: of the replayed step, of the program itself.
inline constexpr const char* kReplayed = "replay";
inline constexpr const char* kApplied = "apply";

inline constexpr const char* kBaselineArm = "baseline";
inline constexpr const char* kPrefetchArm = "prefetch";

struct ArmResult {
  std::string name{};
  int64_t counted = 0;                 // samples
  int64_t pairs = 0;                   // counted samples whose baseline sample counts too
  std::optional<Estimated> step_ns{};  // median of the counted samples; none: none counted
  std::optional<Estimated> speedup{};  // median of the pairs' ratios baseline / arm
  double issued_bytes = 0;             // fetched per step and rank before the window ended

  PairedSpeedup paired_speedup() const {
    if (!speedup) return {{1, 1, 1}, pairs};
    const double estimate = speedup->estimate;
    return {speedup->interval().value_or(Interval{estimate, estimate, estimate}), pairs};
  }
  bool is_plan() const { return std::string_view(name).starts_with(kPrefetchArm); }
};

struct ReplayResult {
  std::vector<ArmResult> arms{};  // baseline, prefetch, then the others in order of execution

  int64_t passes = 0;  // over all arms, the warm-up included
  int64_t steps_per_sample = 1;
  double confidence_level = 0.95;
  std::string stop_reason{};                 // precise, time-limit, pair-limit
  bool busy = false;                         // most counted samples saw an interruption: no verdict
  Verdict verdict = Verdict::ambiguous;      // of arm prefetch
  std::string winner{};                      // of the plans, or baseline; empty: not compared
  std::optional<Estimated> overlap_ratio{};  // step of arm overlap / step of arm prefetch

  int64_t ranks = 1;             // replayed
  int64_t recorded_ranks = 0;    // more where stand-ins replace the others
  int64_t link_latency_ns = 0;   // of the stand-in link; 0: none
  int64_t planned_bytes = 0;     // per step and rank
  int64_t recorded_step_ns = 0;  // slowest rank, stand-in link included

  std::optional<double> fidelity{};  // replayed baseline / recorded step; none: nothing counted
  // The same of the operators that are not collectives, of all ranks.
  std::optional<double> fidelity_op_median{}, fidelity_op_p10{}, fidelity_op_p90{};
  std::optional<double> fidelity_op_worst{};  // farthest from 1
  std::string fidelity_op_worst_name{};

  double predicted_speedup = 1;  // 1 when the plan does nothing
  int64_t predicted_baseline_step_ns = 0, predicted_prefetch_step_ns = 0;
  std::optional<double> prediction_error{};               // predicted / measured speed-up - 1
  int64_t predicted_saved_ns = 0, realised_saved_ns = 0;  // per step
  std::optional<double>
      collective_slowdown{};  // of those that carry prefetches: prefetch / baseline
  std::optional<double> slowdown_per_byte_ns{};  // the same as added ns per prefetched byte

  std::vector<std::string> warnings{};

  bool applied = false;  // of the program itself (apply.db)

  // Facts that the executor wrote into meta.
  std::string device_name{}, executor{}, collective{};

  const ArmResult* find_arm(std::string_view name) const;
};

// Once, while `db` is producing and before any sample is added; rows of arm are numbered from 1 in
// the order of `arms`. The executor's facts are not written: they are in meta.
void write_result(TraceDb& db, const ReplayResult& result);
// One of the measurement's samples, of the arm at that place of `arms`; `discarded`: why it does
// not count, empty where it does.
void write_sample(TraceDb& db, size_t arm, int64_t pair, int64_t position, int64_t step_ns,
                  const std::string& discarded);

// input_error naming the file when it is not a replay, or a value is missing or out of range.
ReplayResult read_result(const TraceDb& db);

// Every value of the tables result and arm as text, by the name of its column; those of an arm have
// its name in front: prefetch_speedup_low.
std::vector<std::pair<std::string, std::string>> facts_of(const ReplayResult& result);

// "200 us": a latency reads best as it was typed.
std::string short_duration(int64_t dur_ns);

// What carried the collectives: "real collectives", "stand-in collectives", "200 us stand-in link",
// "200 us stand-in link and stand-in collectives". `collective` as in meta; empty: not replayed.
std::string conditions_text(int64_t link_latency_ns, std::string_view collective);

// Why arm prefetch has no interval; empty when it has one.
std::string undecided_reason(const ReplayResult& result);
// "14.2 % faster [12.9, 15.4] with real collectives: FAST", only with an interval.
std::string verdict_text(const ReplayResult& result);

}  // namespace preserve
