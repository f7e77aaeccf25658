// SPDX-License-Identifier: Apache-2.0
// trace.db (+ schedule.json, replay.db) -> one Report value, from which every format is written
// (render.h). It holds facts only, already cleaned for showing (text.h). Times are integer ns,
// sizes integer bytes, ratios double; every metric is defined in docs/metrics.md. What is unknown
// has no value and a reason. build_report() throws input_error for files that do not fit together.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/stats.h"
#include "reports/model/inputs.h"

namespace preserve::report {

// A value, or the reason why there is none.
template <typename T>
struct Known {
  std::optional<T> value;
  std::string reason;

  static Known unknown(std::string why) { return {std::nullopt, std::move(why)}; }
  static Known of(std::optional<T> value, std::string otherwise) {
    return value ? Known{std::move(value), ""} : unknown(std::move(otherwise));
  }
  explicit operator bool() const { return value.has_value(); }
  const T& operator*() const { return *value; }
  const T* operator->() const { return &*value; }
};

struct NamedText {
  std::string name, value;
};

struct Machine {
  std::string host, device;  // device: "AMD EPYC 7643 48-Core Processor", empty when not recorded
  std::optional<int64_t> cache_bytes, memory_bandwidth_bytes_per_s, units;
  bool gpu = false;  // units are multiprocessors, else cores
};

// The hosts and devices of a trace.db or replay.db.
std::vector<Machine> read_machines(const TraceDb& db);

struct Loss {
  std::optional<int64_t> rank;
  std::string source, kind;
  int64_t count = 0;
};

struct Recording {
  std::string command, tool_version;
  int64_t ranks = 0;  // ranks recorded
  int64_t processes = 0;
  bool complete = true;  // false: the file or a process is marked as cut short
  std::vector<Machine> machines;
  std::vector<NamedText> environment;  // allow-listed variables, once per distinct value
  std::vector<Loss> losses;            // non-zero ones only
  std::vector<std::pair<std::string, int64_t>> rows;  // rows per table of trace.db
};

// Where the time of one rank went. Each moment belongs to exactly one class, by the precedence of
// kTimeClasses; so exclusive_ns adds up to the wall time. busy_ns counts a class whenever one of
// its operators ran, whatever else ran at the same time.
inline constexpr std::array<const char*, 6> kTimeClasses{"compute", "copy",  "collective",
                                                         "p2p",     "other", "[unattributed]"};
struct ClassTime {
  int64_t exclusive_ns = 0, busy_ns = 0, operators = 0;
};
struct RankTime {
  std::optional<int64_t> rank;
  std::string process;  // "host:pid"
  int64_t steps = 0;    // in `scope`; 0 when the scope is the whole recording
  int64_t wall_ns = 0;
  std::array<ClassTime, kTimeClasses.size()> classes;

  std::string name() const { return rank ? std::to_string(*rank) : process; }
};

// All operators of one kind whose names differ in layer numbers alone: "layers.*.mlp.down". The
// last row, "[others]", gathers what is not listed.
struct OperatorTotal {
  std::string name{}, kind{};
  int64_t names = 0;  // distinct names gathered
  int64_t count = 0, total_ns = 0, min_ns = 0, max_ns = 0;
};

struct CollectiveGroup {
  std::string function, dtype;  // dtype empty: unknown
  std::optional<int64_t> bytes, ranks;
  int64_t count = 0, total_ns = 0;
  int64_t min_ns = 0, p10_ns = 0, median_ns = 0, p90_ns = 0, max_ns = 0;
};

struct TimeUse {
  std::string scope;      // "decode steps" or "whole recording"
  int64_t operators = 0;  // operators in scope
  int64_t total_ns = 0;   // sum of their durations
  std::vector<RankTime> ranks;
  std::vector<OperatorTotal> top;
  std::vector<CollectiveGroup> collectives;
};

// Hardware counters, bytes per kernel, of kernels of one name in ranges of one name; layer numbers
// are "*".
inline constexpr std::array<std::string_view, 4> kCounterMetrics{
    "dram_read_bytes", "dram_write_bytes", "l2_read_bytes", "l2_write_bytes"};
struct CounterTotal {
  struct Bytes {
    int64_t mean = 0, least = 0, most = 0;
  };
  std::string name, range;  // range: innermost around it, empty when there is none
  int64_t count = 0;
  std::array<std::optional<Bytes>, kCounterMetrics.size()> metrics{};
  std::optional<int64_t> named_read_bytes{};  // what the recording says that it reads
};

struct TimelineOp {
  int32_t ordinal = 0;
  std::string name, kind;
  int32_t stream = 0;
  int64_t start_ns = 0, dur_ns = 0, mad_ns = 0;
  int64_t weight_bytes = 0, kv_bytes = 0;  // named bytes that it reads
};

std::string describe(const Loss& loss);  // "3 records of nvtx on rank 0: dropped"

// The folded step of one rank (db/step/folded_step.h).
struct Step {
  int64_t rank = 0, world_size = 1;
  std::string source;
  int64_t steps_total = 0, steps_used = 0;
  int64_t wall_ns = 0, wall_mad_ns = 0;
  int32_t streams = 1;
  // Of a page that does not hold all operators (page/thinned.cc): how many, and what they read.
  int64_t left_out = 0, left_out_bytes = 0;
  std::vector<TimelineOp> ops;
};

struct Prefetch {
  std::string tensor, consumer;
  int32_t consumer_ordinal = 0;
  bool next_step = false;
  int64_t offset_bytes = 0, length_bytes = 0, predicted_saved_ns = 0;
};
struct Window {
  int32_t ordinal = 0;
  std::string name, binds;
  int64_t usable_ns = 0, capacity_bytes = 0, used_bytes = 0, predicted_saved_ns = 0;
  double shadow_price_ns_per_mib = 0;
  std::vector<Prefetch> prefetches{};
};

// A plan that preserve-tune --measure tried, the chosen one included.
struct TriedPlan {
  std::string strategy, issue;  // issue: how it was issued, in words
  double predicted_speedup = 1;
  int64_t prefetched_bytes = 0, pairs = 0;
  Known<Interval> speedup{};
  bool chosen = false;
};

struct PlanView {
  std::string strategy, verdict;  // "prefetch" or "do-nothing"
  std::vector<std::string> reasons;
  std::string device, method, placement;
  int64_t chunk_bytes = 0, budget_bytes = 0, seed = 1;
  int64_t baseline_step_ns = 0, prefetch_step_ns = 0;  // predicted
  double speedup = 1;
  int64_t all_hot_step_ns = 0, window_limited_step_ns = 0, cache_limited_step_ns = 0;
  int64_t prefetched_bytes = 0;
  int64_t cache_peak_bytes = 0;
  double cache_shadow_price_ns_per_mib = 0;
  std::vector<TriedPlan> tried{};  // the chosen one first; empty: predicted only
  std::vector<Window> windows;
  std::vector<int64_t> occupancy_bytes;  // prefetched but unread, after operator 0, 1, 2, ...
};

struct Sample {
  int64_t pair = 0, step_ns = 0;
  std::string discarded;  // why it does not count; empty: it does
};
struct Arm {
  std::string name;
  int64_t samples = 0;                         // counted
  std::map<std::string, int64_t> discarded{};  // reason -> samples
  Known<Interval> step_ns{};                   // interval of the median
  int64_t pairs = 0;                           // pairs shared with baseline
  Known<Interval> speedup{};                   // median of baseline / arm over the pairs
  double issued_bytes = 0;                     // fetched per step and rank before the window ended
  std::vector<Sample> taken{};                 // in order of execution
  int64_t taken_every = 1;                     // above 1: only every so many is in `taken`
};

struct Fidelity {
  double step = 0;          // replayed baseline / expected step
  Known<double> operators;  // median over operators of replayed baseline / recorded
  Known<double> operators_p10, operators_p90;
};

struct Measured {
  std::string replay_path;
  bool applied = false;  // in the program itself
  int64_t planned_bytes = 0;
  std::vector<NamedText> facts;  // what the replay says about itself: method, collectives, ...
  std::vector<Machine> machines;
  std::vector<Arm> arms;
  Known<Interval> speedup;  // of arm prefetch
  std::string verdict;      // FAST, SAME, SLOW, AMBG; empty when there is no speedup
  bool busy = false;  // ranks lost their cores during most samples: AMBG whatever the interval
  Known<Fidelity> fidelity;
  Known<double> prediction_error;     // predicted / measured speedup - 1
  Known<double> collective_slowdown;  // time of the collectives, arm prefetch / arm baseline
};

// One operator of the step in one scenario: the row of the CSV.
struct OperatorTimes {
  int32_t ordinal = 0;
  std::string name, kind;
  std::optional<int64_t> recorded_ns, predicted_ns, baseline_ns, prefetch_ns;
  std::optional<int64_t> hot_ns{};  // in arm hot, with everything in the cache
  int64_t read_bytes = 0;           // named bytes that it reads
};

// One bar of the way from the baseline to the prefetch step, or from the predicted step to its
// bounds. The bars of a part add up: each total is the one before plus the changes between.
struct WhyBar {
  std::string part;  // "measured" or "predicted"
  std::string name, meaning;
  bool total = false;              // a step time; else a change of it
  int64_t dur_ns = 0;              // below 0: the step gets shorter
  std::vector<int32_t> windows{};  // ordinals of the windows most of it comes from, worst first
};

// A schedule and, when there is one, a replay of it.
struct Scenario {
  std::string label;  // "real collectives", "200 us stand-in link"
  std::string schedule_path, schedule_sha256;
  int64_t link_latency_ns = 0;  // > 0: a stand-in for a network link, not a measured network
  PlanView plan;
  Known<Measured> measured;
  std::vector<OperatorTimes> operators;
  // How much longer than recorded those that a page leaves out last in each arm, on the stream that
  // is busiest.
  int64_t left_out_baseline_ns = 0, left_out_prefetch_ns = 0;
  std::string sentence;  // the verdict in words
  std::vector<WhyBar> why;
};

// What is said first of one schedule: the best evidence there is, on one scale of speed-ups.
struct Headline {
  struct Mark {
    std::string name;
    double estimate = 1;
    std::optional<double> low{}, high{};
  };
  std::string label;
  std::string verdict;  // FAST, SAME, SLOW, AMBG; do-nothing; predicted: nothing was measured
  std::string basis;    // applied, replayed or predicted
  std::string sentence, reason, advice;      // advice: what would help most
  std::string prices;                        // what one more MiB of cache and windows is worth
  std::optional<int64_t> advice_worth_ns{};  // per step
  std::vector<Mark> marks{};
};

enum class Severity { serious, caution, note };  // serious: the verdict may be wrong
const char* to_text(Severity severity);          // "serious", "caution", "note"
struct Warning {
  std::string source, text;  // source: the files it comes from
  Severity severity = Severity::caution;
};

// Two values of one quantity; none: the run did not have it.
struct Change {
  std::optional<int64_t> before{}, after{};
  int64_t difference() const { return after.value_or(0) - before.value_or(0); }
};
struct OperatorChange {
  std::string name, kind;    // layer numbers are "*"
  Change count{}, dur_ns{};  // per step
};
struct WindowChange {
  std::string scenario, name;
  int32_t ordinal = 0;
  Change used_bytes{}, predicted_saved_ns{};
};
struct SpeedupChange {
  std::string scenario;
  Interval before, after;
  std::string word;  // higher, lower; undecided: the intervals overlap
};

// This run against an earlier one (model/earlier.h).
struct Earlier {
  std::string path, command;  // path: its trace.db or report.json
  std::string sentence{};     // what happened to the recorded step
  // What else differs, "2 ranks instead of 4": no single change is behind the numbers then.
  std::vector<std::string> differences{};
  Change step_ns{};
  std::string step_word{};  // slower, faster; undecided: within the spread of the steps
  std::vector<SpeedupChange> speedups{};
  std::vector<OperatorChange> operators{};  // largest difference first
  std::vector<WindowChange> windows{};      // those that differ
};

struct Report {
  std::vector<InputFile> inputs;
  std::vector<std::string>
      sentences;  // one per scenario; one saying what is missing when there is none
  std::vector<Headline> headlines;  // one per schedule
  std::vector<Warning> warnings;    // serious ones first
  Recording recording;
  Known<Step> step;
  TimeUse time_use;
  std::vector<CounterTotal> counters;  // of a recording with --counters
  std::vector<Scenario> scenarios;
  std::vector<Earlier> earlier;  // the other recordings named, or --baseline
};

Report build_report(const InputSet& inputs);

// Throws internal_error when the numbers do not add up; build_report() calls it on every Report.
void check_consistency(const Report& report);

}  // namespace preserve::report
