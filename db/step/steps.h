// SPDX-License-Identifier: Apache-2.0
// Finds the repeated step of a recording. Producers (converter, importers, replay) call
// mark_steps() once, just before TraceDb::finish(); readers find the result in the tables step and
// op.step_id.
//
// A step is an annotated range (NVTX decode_step, ProfilerStep#7, ...) when there is one, else a
// period of the sequence of collectives (name, size, communicator), which is a guess; where they
// are all alike or there is none, of the sequence of operators on their stream. One collective by
// itself is no step: any loop repeats one.
#pragma once

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
std::vector<KnownStep> mark_annotated_steps(TraceDb& db, ProcessId process,
                                            const StepOptions& options = {});
StepId step_at(const std::vector<KnownStep>& steps, int64_t ns);  // no row outside of all steps

// The phase that the name of an annotation says by the built-in list; nothing: it names no step.
std::optional<StepPhase> annotated_phase(const TraceDb& db, const std::string& name);

// Fills step, op.step_id and quality for every process. `db` must still be producing.
StepSummary mark_steps(TraceDb& db, const StepOptions& options = {});

}  // namespace preserve
