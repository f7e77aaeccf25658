// SPDX-License-Identifier: Apache-2.0
// preserve-profile --import: traces of other profilers -> trace.db. The format is detected from
// the content. Several files are the ranks of one run: one trace, clocks aligned by their
// collectives.
//
// Errors are input_error naming the file. Whatever could not be used is counted in table loss.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "common/cli.h"
#include "db/step/steps.h"
#include "db/trace_db.h"
#include "profiler/import/comparison_limits.h"

namespace preserve::import {

struct ImportOptions {
  std::vector<std::filesystem::path> files{};
  std::vector<std::filesystem::path> kernel_rules{};  // read before the built-in table
  bool partial = false;
  StepOptions steps{};
  ComparisonLimits limits{};
  // Called with the finished trace, which it may replace, before the trace gets its name.
  std::function<void(const std::filesystem::path& trace)> complete{};
};

struct ImportSummary {
  int64_t processes = 0, activities = 0, kernels = 0, steps = 0;
  std::vector<std::string> notes{};     // facts worth a line: clock shifts, residuals, sources
  std::vector<std::string> warnings{};  // what had to be assumed or was lost
};

// Fills `db`, which is new, and leaves it unfinished (the caller calls finish()).
ImportSummary import_traces(const ImportOptions& options, TraceDb& db);

// The whole command: reads `options.files`, writes `output` ("trace.db"), prints, returns the exit
// code.
int run_import(const ImportOptions& options, const std::filesystem::path& output, bool force,
               Console& console);

}  // namespace preserve::import
