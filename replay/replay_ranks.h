// SPDX-License-Identifier: Apache-2.0
// The replay inside the rank processes: pins, rebuilds, measures together, and gives rank 0
// everything that replay.db holds.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "replay/replay_db.h"
#include "replay/replay_job.h"

namespace preserve {

// On rank 0 the whole record, elsewhere only the measurement. Collective over all ranks.
ReplayRecord replay_on_ranks(const Ranks& ranks, const ReplayJob& job, const ReplayRequest& request,
                             const HostCores& host, const MeasureOptions& options);

}  // namespace preserve
