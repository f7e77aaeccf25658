// SPDX-License-Identifier: Apache-2.0
// Finds the repeated step of a recording. Producers call mark_steps() once, just before
// TraceDb::finish(), or, where operators wait for their steps (importers), find_steps() for the
// processes and then finish_steps(); readers find the result in the tables step and
// op.step_id.
//
// A step is an annotated range (NVTX decode_step, ProfilerStep#7, ...) when there is one, else a
// period of the sequence of collectives (name, size, communicator), which is a guess; where they
// are all alike or there is none, of the sequence of operators on their stream. One collective by
// itself is no step: any loop repeats one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

struct StepOptions {
  // Names of ranges that are steps: exact, or with * and ? (SQLite GLOB). Empty: the built-in list.
  std::vector<std::string> decode_globs{};
  std::vector<std::string> prefill_globs{};
  bool by_period = false;   // guess the period also where ranges name steps
  int64_t collectives = 0;  // a step has that many, whatever ranges say; 0: not known
};

struct StepSummary {
  int64_t annotated = 0;  // steps found by name
  int64_t detected = 0;   // steps guessed from the period
  int64_t counted = 0;    // steps of StepOptions::collectives
  int64_t all() const { return annotated + detected + counted; }
};

// For producers that have the ranges of a process before its operators: adds the steps that ranges
// name, in order of time. The producer fills OpRow::step with step_at(), and mark_steps() leaves
// the process alone; rewriting every operator costs as much as a third of a conversion.
struct KnownStep {
  int64_t start_ns = 0, end_ns = 0;
  StepId step;
};
class StepNames;  // annotations.h
// Rows of table range, both ends included, that hold all ranges of the processes asked for.
struct RangeWindow {
  int64_t first = 0, last = INT64_MAX;
};
std::vector<KnownStep> mark_annotated_steps(TraceDb& db, ProcessId process, StepNames& names,
                                            RangeWindow window = {});
StepId step_at(const std::vector<KnownStep>& steps, int64_t ns);  // no row outside of all steps

// For producers that hold the operators of a process back until their steps are known. The producer
// says what they are, and fills OpRow::step with step_at(); finish_steps() takes the place of
// mark_steps().
struct StepOperator {
  int64_t start_ns = 0, end_ns = 0;
  int64_t name = 0;  // row of table string
  OpKind kind = OpKind::other;
  int64_t bytes = -1, communicator = -1;  // of communication; -1 unknown
};
struct StreamOperators {
  int64_t stream = 0;  // row of table stream
  int64_t operators = 0, collectives = 0;
  int64_t communication = 0;    // collectives and calls between two
  int64_t first = 0, last = 0;  // all are between them, as the source numbers operators
};
class OperatorSource {
 public:
  enum class Of { communication, operators };
  using Next = std::function<bool(StepOperator&)>;  // false: there is no other

  virtual ~OperatorSource() = default;
  // Those that have operators, by row.
  virtual const std::vector<StreamOperators>& streams() const = 0;
  // In order of start; of all operators the kind need not be filled in.
  virtual Next sequence(const StreamOperators& stream, Of of) const = 0;
  // Where and when GPUs ran what was launched in a range (row of table range); a range may come
  // several times.
  using Take = std::function<void(int64_t range, int64_t start_ns, int64_t end_ns)>;
  virtual void launched(const Take& take) const = 0;
};
struct StepSearch {
  ProcessId process;
  const OperatorSource* operators = nullptr;
};
// Of several processes that were written together, in their order.
std::vector<std::vector<KnownStep>> find_steps(TraceDb& db, const std::vector<StepSearch>& searches,
                                               StepNames& names, RangeWindow window = {});
// Fills quality for every process with steps. `db` must still be producing.
StepSummary finish_steps(TraceDb& db);

// The phase that the name of an annotation says by the built-in list; nothing: it names no step.
std::optional<StepPhase> annotated_phase(const TraceDb& db, const std::string& name);

// Fills step, op.step_id and quality for every process. `db` must still be producing.
StepSummary mark_steps(TraceDb& db, const StepOptions& options = {});

}  // namespace preserve
