// SPDX-License-Identifier: Apache-2.0
// Prefill or decode? Steps whose annotation does not say are judged by what ran in them: the names
// of the attention kernels, weighted by time. What they do not tell stays unknown.
#pragma once

#include "db/trace_db.h"

namespace preserve::gpu {

struct PhaseSummary {
  int64_t decode = 0, prefill = 0, unknown = 0;
};

// Sets step.phase where it is unknown and the operators tell. `db` is still producing.
PhaseSummary tell_phases(TraceDb& db);

}  // namespace preserve::gpu
