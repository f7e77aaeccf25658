// SPDX-License-Identifier: Apache-2.0
// Prefill or decode: what a name tells of it, and how a person is told why.
#pragma once

#include <string>
#include <string_view>

#include "db/step/folded_step.h"
#include "db/trace_db.h"

namespace preserve {

// By a kernel's name: attention kernels for one token per sequence, or for many. unknown: all
// others.
StepPhase phase_of_kernel(std::string_view name);

// One sentence: "its range is named step[DECODE bs=16]", or which kernels took its attention time.
std::string phase_reason(const TraceDb& db, const FoldedStep& step);

}  // namespace preserve
