// SPDX-License-Identifier: Apache-2.0
// From a folded step and a device to the integer problem that the planner solves: which collectives
// are windows and how much they can fetch, which reads are worth fetching for, how much the cache
// can hold over each operator in between. Pure values; docs/planning.md has every formula. Sizes of
// the flow are blocks of kBlockBytes, its prices 1/kPriceScale ns per block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/flow/flow.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"

namespace preserve {

inline constexpr int64_t kBlockBytes = 4096;     // a page, and less than any piece worth a request
inline constexpr int64_t kPriceScale = 1 << 16;  // rounding stays below 1e-4 on any known device

// automatic: idle windows where the device says how much prefetches slow what may run beside them.
enum class WindowsMode { automatic, collective, idle };
const char* to_string(WindowsMode mode);

struct ProblemOptions {
  std::optional<int64_t> budget_bytes{};  // default: the device's
  WindowsMode windows = WindowsMode::automatic;
  int64_t link_latency_ns = 0;  // added to every collective
  std::string method{};         // "load" or "load/spare"; default: make_schedule() chooses
};

// Part of a tensor that an operator reads and that may be fetched ahead, whole blocks from its
// head.
struct Slice {
  int32_t tensor = 0;  // index into FoldedStep::tensors
  int64_t offset_bytes = 0;
  int64_t blocks = 0;
};

struct PlanConsumer {
  int32_t ordinal = 0;
  std::vector<Slice> slices;  // in the order of reading
  int64_t blocks = 0;         // sum
  int32_t first_demand = 0;   // its demands in the flow: concave, the head first
  int32_t demands = 0;
};

// A place to issue prefetches. What it fetches arrives while its operator runs and, where the
// prefetch stream outlasts the window, in the memory's idle time after it, up to the next window:
// one supply of the flow for the operator, one for each later operator that leaves room.
//
//   operators:  | window's collective | idle |  op a  |  op b  | next window
//   stream:     |latency| usable -----|------|--------|--------|
//   supplies:           |    own      | free | cost a | cost b |
//
// A latency longer than the collective shortens what follows.
struct Window {
  int32_t ordinal = 0;
  // Of the operator, after the core's own work, start latency and guard, link included.
  int64_t usable_ns = 0;
  int64_t capacity_bytes = 0;       // what arrives, all supplies together
  std::vector<int32_t> supplies{};  // into the flow; [0] is the operator's own, perhaps empty
};

// What was left out or assumed, counted for the warnings.
struct ProblemNotes {
  int64_t operators_without_bytes = 0;  // compute operators whose reads are not known
  int64_t clamped_operators = 0;        // recorded bytes exceed what the time allows
  int64_t low_confidence_bytes = 0;     // of candidates whose access was inferred
  int64_t written_bytes = 0;            // not candidates: written within the step
  int64_t still_cached_bytes = 0;       // not candidates: survive from their last use
  int64_t zero_duration_operators = 0;
  double collective_work_ns = 0;      // during which the core that prefetches does not
  int64_t overlapping_operators = 0;  // start before their predecessor on the stream ended
  int64_t clipped_accesses = 0;       // reach beyond the end of their tensor
  int64_t unnamed_bytes = 0;          // read from tensors that are neither weights nor KV
};

struct PlanProblem {
  int64_t budget_bytes = 0;
  int64_t held_bytes = 0;                   // of it, what is worth holding at once
  double baseline_step_ns = 0;              // recorded step, link included
  double all_hot_step_ns = 0;               // every read of every operator hits
  std::vector<Window> windows;              // by ordinal
  std::vector<PlanConsumer> consumers;      // by ordinal
  std::vector<int32_t> supply_window;       // per supply of the flow: index into windows
  std::vector<int32_t> supply_op;           // per supply: operator during which it arrives
  std::vector<int32_t> demand_consumer;     // per demand of the flow: index into consumers
  std::vector<int64_t> room_bytes;          // per operator: what may wait over it; < 0: nothing
  std::vector<int64_t> edge_room_bytes;     // per edge of the flow: the least of its operators
  FlowProblem flow;
  ProblemNotes notes;
};

// Throws input_error, saying what to do, when the step has no collective or no named tensor, or
// impossible numbers; usage_error when the budget is zero, above the cache or below one block.
PlanProblem build_problem(const FoldedStep& step, const DeviceModel& device,
                          const ProblemOptions& options);

// A plan taken as given, by operator; empty vectors: no assumption.
struct AssumedPlan {
  std::vector<int64_t>
      hit_bytes{};  // reads that hit: leave the memory to the stream, shorten the operator
  std::vector<int64_t> window_bytes{};  // of each window's stream: the most it moves
  std::vector<int64_t> held_bytes{};    // fetched and unread: there is room for them
  std::vector<double> kept_share{};     // of what arrives for its reads: not evicted before them
};

// The problem when the reads of `assumed` already hit and its windows limit the streams; with the
// same consumers. build_problem() must have accepted the step: it is not checked again.
PlanProblem build_problem_given(const FoldedStep& step, const DeviceModel& device,
                                const ProblemOptions& options, const AssumedPlan& assumed);

// The device's first method, or its first of this name, or that of this name and placement
// ("load/spare"); nullptr when the device has none. usage_error when none is called so.
const PrefetchMethod* choose_method(const DeviceModel& device, const std::string& name);

// As choose_method() finds it: "load/spare"; "" of none.
std::string full_name(const IssueMethod& method);

// How it is issued unless a plan has its own method.
IssueMethod issue_method(const PrefetchMethod& method);

// collective where `options` are automatic and the device's method leaves no idle window.
WindowsMode settled_windows(const DeviceModel& device, const ProblemOptions& options);

inline double price_to_ns(int64_t price) {
  return static_cast<double>(price) / static_cast<double>(kPriceScale);
}

}  // namespace preserve
