// SPDX-License-Identifier: Apache-2.0
// The measurement inside the rank processes: gives rank 0 everything that replay.db holds.
#pragma once

#include <string>

#include "replay/measure/measure.h"
#include "replay/measure/replay_db.h"
#include "replay/step/job.h"
#include "replay/step/rank_executor.h"

namespace preserve {

// Measures an executor that has not run yet. On rank 0 the whole record without its device,
// elsewhere only the measurement. Collective over all ranks.
ReplayRecord measure_on_ranks(const Ranks& ranks, RankExecutor& executor, const ReplayJob& job,
                              const std::string& host, const MeasureOptions& options);

}  // namespace preserve
