// SPDX-License-Identifier: Apache-2.0
// Spool files -> trace.db: the offline half of the profiler. Everything recorded becomes a row or
// is counted in `loss`; a torn or damaged spool gives what can be read of it, marked incomplete. Of
// a spool without a readable header that is nothing; when no spool has one, the first one's
// input_error is thrown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "db/step/steps.h"
#include "db/trace_db.h"

namespace preserve {

struct ConvertOptions {
  StepOptions steps{};
  std::vector<std::string> kernel_rules{};         // files of more rules for names of GPU kernels
  std::vector<std::filesystem::path> unwritten{};  // unwritten_files() of the recording
  bool interrupted = false;                        // the run was cut short: the trace says so
  std::function<void(double done, double total)> progress{};  // bytes looked at
};

struct ConvertSummary {
  int64_t processes = 0;
  int64_t records = 0;  // read from spools
  int64_t operators = 0, collectives = 0, ranges = 0, tensors = 0;
  bool complete = true;
  bool counters = false;  // a recording of hardware counters: not to be planned from
  StepSummary steps{};
  std::vector<std::string> losses;  // one sentence each
  std::vector<std::string> warnings;
  std::vector<std::string> notes;
};

// *.spool in `folder`, in order of name.
std::vector<std::filesystem::path> spool_files(const std::filesystem::path& folder);
// Of processes that had something to record and could write none of it.
std::vector<std::filesystem::path> unwritten_files(const std::filesystem::path& folder);

// Adds everything to `db` and marks the steps; the caller calls finish().
ConvertSummary convert_spools(const std::vector<std::filesystem::path>& files, TraceDb& db,
                              const ConvertOptions& options = {});

}  // namespace preserve
