// SPDX-License-Identifier: Apache-2.0
// The representative step: all repetitions of one rank's step folded into one, with robust
// statistics per operator. Planner, replay and reports all start from this value, so an ordinal
// means the same operator in each of them and in schedule.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "db/trace_db.h"

namespace preserve {

// The recording is sound and has no step of the kind that was asked for; says what to do.
class NoStepError : public Error {
 public:
  explicit NoStepError(const std::string& message) : Error(ErrorKind::input, message) {}
};

struct StepTensor {
  std::string name;  // as the program named it, unique within the step
  TensorRole role = TensorRole::unknown;
  int64_t bytes = 0;     // largest size seen in the folded repetitions
  bool written = false;  // some operator of the step writes it
};

struct StepAccess {
  int32_t tensor = 0;  // index into FoldedStep::tensors
  int64_t offset_bytes = 0;
  int64_t bytes = 0;  // median over the repetitions
  AccessMode mode = AccessMode::read;
  double confidence = 1;
  std::string source;
};

struct StepCollective {
  std::string function;
  std::optional<int64_t> bytes, ranks, communicator;
  bool blocking = true;
  std::string dtype;
  std::optional<int64_t> blocks{};  // counter blocks: thread blocks that it occupied on a GPU
};

// A matrix product: activations (m x k) by weights (n x k).
struct StepGemm {
  int64_t m = 0, n = 0, k = 0;
  std::string dtype;  // of the weights, as in schema.sql; empty: unknown
  friend bool operator==(const StepGemm&, const StepGemm&) = default;
};

struct StepOp {
  int32_t ordinal = 0;  // position in the step by start time; index into FoldedStep::ops
  OpKind kind = OpKind::other;
  std::string name;
  int32_t stream = 0;   // index into FoldedStep::streams
  double start_ns = 0;  // median start, relative to the start of the step
  double dur_ns = 0;    // median duration
  double mad_ns = 0;    // median absolute deviation of the duration
  double floor_ns =
      0;  // counter floor_ns: known time with every byte cached (arithmetic); 0: unknown
  // Of a collective, the first part of dur_ns, in which the core that runs it works for it instead
  // of waiting (db/step/collective_work.h); fold_step() leaves it 0: unknown.
  double work_ns = 0;
  std::vector<StepAccess> accesses;
  std::optional<StepCollective> collective;
  std::optional<StepGemm> gemm;  // nothing: no product, unknown, or not the same in all repetitions
};

struct FoldedStep {
  std::string trace_file;
  int64_t rank = 0;  // 0 when the trace has no ranks
  ProcessId process;
  int64_t world_size = 1;
  std::string source;                   // nvtx, detected, counted, replay, model
  StepPhase phase = StepPhase::decode;  // of the repetitions; unknown ones count as decode
  int64_t steps_total = 0;              // steps of that phase of this rank in the trace
  int64_t steps_used = 0;  // of these, how many have the operator sequence that was folded
  double wall_ns = 0;      // median duration of a used step
  double wall_mad_ns = 0;
  int64_t interrupted = 0;  // used steps that lasted more than 1.5 times the median
  // Sum of the medians of operators and of the gaps between them, on streams[0]. Far below wall_ns
  // when every step loses its time in another place.
  double repeating_ns = 0;
  double explained_ns = 0;       // of wall_ns, when some operator runs
  std::vector<int64_t> streams;  // stream ids in trace.db; [0] carries most collectives
  std::vector<StepOp> ops;       // in order of start
  std::vector<StepTensor> tensors;
  std::vector<std::string> warnings;
};

// Rows of table op that were folded, each with the ordinal of its operator.
using FoldedRows = std::vector<std::pair<int64_t, int32_t>>;

// Folds the steps of `rank` (default: the lowest recorded rank, or the only process with
// steps) and of `phase`: decode, steps of unknown phase included, or prefill; nothing: decode where
// it was recorded, else prefill, with a warning. When operator sequences differ, the most frequent
// one is folded and the others are counted in a warning. The first step is left out when there are
// more than three: it runs cold. Throws NoStepError when the trace has no step, no such rank, none
// of that phase, or is a recording of hardware counters; another input_error when it is damaged.
FoldedStep fold_step(const TraceDb& db, std::optional<int64_t> rank = std::nullopt,
                     std::optional<StepPhase> phase = std::nullopt, FoldedRows* rows = nullptr);

// The phases that fold_step() can fold, of that rank or of any: decode (unknown ones included),
// prefill.
std::vector<StepPhase> recorded_phases(const TraceDb& db,
                                       std::optional<int64_t> rank = std::nullopt);

// The same of one process, without what its operators read and send: operators, times and spread.
// Of a long recording evenly spaced steps, at most about `most_operators` in all. No operators when
// there is nothing to fold. Also while `db` is still producing.
FoldedStep fold_times(const TraceDb& db, ProcessId process, int64_t most_operators);

// Ranks that have steps, ascending; {0} for a trace without ranks but with steps.
std::vector<int64_t> ranks_with_steps(const TraceDb& db);

}  // namespace preserve
