// SPDX-License-Identifier: Apache-2.0
// Writes replay.db: what was found into result and arm, the measurement into sample and arm_op, one
// measured step per rank and arm into process, stream, op, collective and step, facts of the
// executor into meta (docs/formats.md lists the keys).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "replay/measure/measure.h"
#include "replay/measure/outcome.h"
#include "replay/step/program.h"
#include "replay/step/rank_executor.h"

namespace preserve {

struct ReplayRecord {
  std::vector<MeasuredSample> samples;  // in order of execution
  ReplayResult result;
  OpTimes op_times;
  std::vector<std::vector<OpInterval>> steps;  // [rank * arms + arm]: the last step, by operator
  DeviceRow device;                            // of every rank, apart from its host
  std::vector<std::string> hosts;              // by rank
  std::vector<int64_t> pids;                   // by rank
  std::map<std::string, std::string> meta;     // what only the tool knows: paths, digests, options
};

// After write_result(), which numbers the arms; also books the losses.
void write_samples(TraceDb& db, const std::vector<MeasuredSample>& samples);

// `path` is a temporary one: the file is complete when this returns.
void write_replay_db(const std::filesystem::path& path, const ReplayRecord& record,
                     const StepProgram& program, const Schedule& schedule);

}  // namespace preserve
