// SPDX-License-Identifier: Apache-2.0
// schedule.json: what to prefetch where, with predictions and bounds. The contract between
// preserve-tune, preserve-replay, preserve-apply and preserve-report. Schema:
// planner/schedule/schedule.schema.json (draft-07), "schema": "preserve/schedule", "version":
// "1.3". Operators are named by ordinal in the folded step, which holds for the trace that was
// planned, and by path and occurrence, which hold for every recording of the program unless
// several streams have the path; tensors by name. 1.2 added the signature, 1.3 path and occurrence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace preserve {

inline constexpr const char* kScheduleVersion = "1.3";

enum class Strategy { none, bfs, flow };
inline constexpr std::initializer_list<Strategy> kStrategies = {Strategy::flow, Strategy::bfs,
                                                                Strategy::none};
enum class PlanVerdict { do_nothing, prefetch };
const char* to_string(Strategy strategy);    // the words of the file: "none", "bfs", "flow"
const char* to_string(PlanVerdict verdict);  // "do-nothing", "prefetch"

// How prefetches are issued: a PrefetchMethod of the device file, and further choices.
struct IssueMethod {
  std::string name;         // load, prefetcht0_paced, bulk_l2, ...; empty: the device has none
  std::string placement;    // "consumer" or "spare"; empty: the device has none
  int64_t chunk_bytes = 0;  // bytes between two polls of the collective (CPU), per request (GPU)
  int64_t ctas = 0;         // GPU only; 0: the executor's default
  std::string eviction = "normal";  // or "last": asks the cache to keep these lines longest
  // When the first request is made. "after": when the collective has started. "before": possibly
  // earlier, so that requests may overtake the collective and delay it.
  std::string issue = "after";

  bool operator==(const IssueMethod&) const = default;
};

// What preserve-replay found for a plan: the paired ratio baseline / plan.
struct PlanMeasurement {
  double speedup = 1;
  std::optional<double> low, high;  // its 95 % interval; none from too few pairs
  int64_t pairs = 0;                // counted
};

// Where an operator is in the step, in every recording of the program.
struct OperatorPlace {
  // "COLLECTIVES/KIND/NAME": how many collectives begin before it on its stream, 5/compute/mlp.up.
  std::string path;
  int32_t occurrence = 0;  // among the operators with this path, by start

  bool operator==(const OperatorPlace&) const = default;
};

struct PlannedPrefetch {
  std::string tensor;
  int32_t consumer_ordinal = 0;
  std::string consumer;                         // name of the operator that reads it
  std::optional<OperatorPlace> consumer_place;  // nothing: a file before 1.3
  int64_t offset_bytes = 0;                     // within the tensor
  int64_t length_bytes = 0;
  double predicted_saved_ns = 0;
  bool next_step = false;  // the consumer runs in the following step (the ring's wrap edge)
};

struct PlannedWindow {
  int32_t ordinal = 0;  // of the collective (or idle operator) in the step
  std::string name;
  std::optional<OperatorPlace> place;  // nothing: a file before 1.3
  int64_t usable_ns = 0;  // length after work, start latency and guard, link latency included
  int64_t capacity_bytes = 0;
  int64_t used_bytes = 0;
  double shadow_price_ns_per_mib = 0;  // worth of one more MiB of window capacity
  std::string binds;                   // "window", "cache", "candidates" or "none": what limits it
  std::vector<PlannedPrefetch> prefetches;  // in the order they are issued
};

struct Plan {
  Strategy strategy = Strategy::none;
  PlanVerdict verdict = PlanVerdict::do_nothing;  // then: strategy none, no windows
  std::vector<std::string> reasons;
  int64_t baseline_step_ns = 0;  // predicted without prefetching (the recorded step, link included)
  int64_t prefetch_step_ns = 0;  // predicted with
  double speedup = 1;
  int64_t objective_ns = 0;      // optimum of the flow, when that was asked for; 0 for bfs
  int64_t cache_peak_bytes = 0;  // largest prefetched-but-unread amount
  double cache_shadow_price_ns_per_mib = 0;
  std::vector<PlannedWindow> windows;
  std::optional<IssueMethod> method;        // in place of the schedule's
  std::optional<PlanMeasurement> measured;  // by preserve-tune --measure
};

// One collective of the step, as a library that sees nothing but the program's calls can tell it
// from others. Unknown: empty text, no value.
struct SignatureCall {
  int32_t ordinal = 0;     // of the collective in the step, as a window names it
  std::string function{};  // allreduce, allgather, ... (collective.function of trace.db)
  bool blocking = true;
  std::optional<int64_t> bytes{};  // message of the planned rank
  std::string type{};              // element type as the library names it
  std::optional<int64_t> ranks{};  // size of the communicator
  bool messages = false;  // point-to-point calls begin between the collective before and it

  bool operator==(const SignatureCall&) const = default;
};

struct Schedule {
  std::string trace_path, trace_sha256;
  int64_t rank = 0;
  int64_t ranks = 1;     // ranks of the recorded program; each runs the same plan
  int64_t step_ops = 0;  // operators of the folded step, to recognise a foreign trace
  bool prefill = false;  // the step is a prefill: it is folded as such
  // The step's collectives in order of start; empty: it has none, or an older preserve-tune.
  std::vector<SignatureCall> signature;
  std::string device_name;
  IssueMethod method;  // of every plan that has none of its own
  int64_t budget_bytes = 0;
  int64_t link_latency_ns = 0;  // > 0: planned for a stand-in network link; replay must agree
  uint64_t seed = 1;
  std::string windows_mode = "collective";                                             // or "idle"
  int64_t all_hot_step_ns = 0, window_limited_step_ns = 0, cache_limited_step_ns = 0;  // bounds
  std::vector<std::string> warnings;
  Plan plan;                     // the chosen one
  std::vector<Plan> candidates;  // the k - 1 next best, also when the chosen one does nothing
};

// How `plan` of `schedule` is issued: its own method, else the schedule's.
const IssueMethod& method_of(const Schedule& schedule, const Plan& plan);

// "load on the consumer's core, 16.0 KiB at a time", then what differs from the defaults.
std::string describe(const IssueMethod& method);

// Windows that fetch anything.
int64_t used_windows(const Plan& plan);

// What a file says first: the step that it plans.
struct PlannedStep {
  int64_t rank = 0;
  bool prefill = false;

  bool operator==(const PlannedStep&) const = default;
};

PlannedStep planned_step(const Schedule& schedule);

// From the beginning of the file alone, so that others can begin with that step while the rest of a
// long file is read. Nothing is checked: load_schedule() may refuse the file or find another step.
std::optional<PlannedStep> peek_planned_step(const std::filesystem::path& path);

// Reads, validates against the schema (input_error with JSON pointer; a newer major version is
// refused naming both), then checks ranges: lengths positive, no byte twice per use, sums agree.
Schedule load_schedule(const std::filesystem::path& path);
std::string to_json(
    const Schedule& schedule);  // stable key order, integers for ns and bytes, no NaN

// Throws input_error with both digests when the schedule was not made from this trace.
void require_same_trace(const Schedule& schedule, const std::filesystem::path& schedule_path,
                        const std::filesystem::path& trace_path);

}  // namespace preserve
