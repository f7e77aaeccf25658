// SPDX-License-Identifier: Apache-2.0
// preserve-profile --export chrome: a trace.db as Chrome-trace JSON for ui.perfetto.dev. One track
// per GPU stream; operators of one stream that overlap go to sub-tracks, because a track only shows
// nested slices. Host ranges nest on their thread, counters have tracks of their own, arrows lead
// from the launching range to the operator and between the ranks of one collective.
//
// With a schedule, what it prefetches is drawn inside its windows, step by step. Of schedule.json
// only the few fields drawn are read, here, so that the profiler does not depend on the planner.
#pragma once

#include <filesystem>
#include <optional>

#include "common/cli.h"

namespace preserve::exporter {

// Writes to `output`, gzip-compressed when its name ends in .gz ("-" is standard output).
// input_error for a schedule of another trace, usage_error for another format.
int run_export(const std::filesystem::path& trace, const std::string& format,
               const std::optional<std::filesystem::path>& schedule,
               const std::filesystem::path& output, bool force, Console& console);

}  // namespace preserve::exporter
