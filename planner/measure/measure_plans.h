// SPDX-License-Identifier: Apache-2.0
// Drives the closed loop over preserve-replay: schedules out, replay.db files in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/cli.h"
#include "planner/measure/closed_loop.h"

namespace preserve {

struct MeasureRequest {
  std::filesystem::path trace;
  std::string trace_sha256;
  int64_t time_ns = 60'000'000'000;  // of all replays together
  int rounds = 2;
  std::vector<std::string> replay_words;  // further options of preserve-replay
  std::filesystem::path keep;  // folder in which schedules and replays are kept; empty: none
  bool force = false;          // replace existing files
};

// Nothing when a signal stopped it (StopSignals::received()), which needs a StopSignals.
// input_error with its message when preserve-replay cannot measure.
std::optional<Schedule> measure_plans(const FoldedStep& step, const DeviceModel& device,
                                      const PlanOptions& options, const MeasureRequest& request,
                                      Console& console);

}  // namespace preserve
