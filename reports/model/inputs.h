// SPDX-License-Identifier: Apache-2.0
// The files on the command line, recognised by content and matched by digest: each replay.db
// belongs to the schedule.json it ran, each schedule.json to the trace.db it was planned from, so
// that several recordings with all that was made of them can be named together.
// Throws input_error naming the file that does not fit, and what would.
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "db/trace_db.h"
#include "planner/schedule/schedule.h"

namespace preserve::report {

enum class InputKind { trace, schedule, replay, grid, explore };
const char* to_text(InputKind kind);

// What a file is, by its content. input_error when it is none of these.
InputKind recognise(const std::filesystem::path& path);

struct InputFile {
  std::filesystem::path path;
  InputKind kind = InputKind::trace;
  int64_t bytes = 0;
  std::string sha256;
};

struct ScheduleInput {
  InputFile file;
  Schedule schedule;
};
struct ReplayInput {
  InputFile file;
  size_t schedule = 0;  // index into InputSet::schedules
};

// The step that a schedule names in its first lines, folded while the rest of it is read.
struct EarlyStep {
  PlannedStep planned;
  std::shared_future<FoldedStep> folded;
};

struct InputSet {
  InputFile trace;
  std::vector<ScheduleInput> schedules;
  std::vector<ReplayInput> replays;
  std::optional<EarlyStep> early_step;
};

// One per recording, in the order of `paths`.
std::vector<InputSet> read_runs(const std::vector<std::filesystem::path>& paths);

// All of `paths`, when they are of `kind`; none, when none is. usage_error when only some are.
std::vector<InputFile> all_of_kind(const std::vector<std::filesystem::path>& paths, InputKind kind);

}  // namespace preserve::report
