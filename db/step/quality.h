// SPDX-License-Identifier: Apache-2.0
// How far the repetitions of the decode step are alike: the recording's own quality, in the table
// quality. On a machine that is busy with something else every step loses its time in another
// place; the medians of its operators then describe no step that ever ran, and a plan made from
// them predicts nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/cli.h"
#include "db/trace_db.h"

namespace preserve {

// Of one process, as in the table.
struct RecordingQuality {
  std::optional<int64_t> rank;
  int64_t steps = 0, steps_used = 0, interrupted = 0;
  double step_ns = 0, step_mad_ns = 0;
  double explained_ns = 0, repeating_ns = 0;
  double varying = 0;

  // Share of the step that lies in another place each time.
  double irregular() const { return step_ns > 0 ? 1 - repeating_ns / step_ns : 0; }
  bool too_noisy() const;
};

// For finish_steps(): fills the table for every process with decode steps.
void add_quality(TraceDb& db);

// Of the rank whose steps are least alike; nothing for files without such rows, as those of models.
std::optional<RecordingQuality> worst_quality(const TraceDb& db);

// One line: "rank 0: steps of 17.6 ms (MAD 2.1 %), 98.2 % of it in operators; ..."
std::string describe(const RecordingQuality& quality);

// What every tool prints of the recordings it reads: nothing, a line, or a warning when it is too
// noisy to plan from.
void report_quality(const TraceDb& db, Console& console);

// Throws input_error when the recording is too noisy to plan from, unless `force`.
void require_quality(const TraceDb& db, bool force);

}  // namespace preserve
