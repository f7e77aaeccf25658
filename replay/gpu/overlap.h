// SPDX-License-Identifier: Apache-2.0
// Arm overlap: which collectives are sent in pieces while the next piece of the operator before
// them runs.
#pragma once

#include <string>
#include <vector>

#include "planner/schedule/device.h"
#include "replay/step/program.h"

namespace preserve {

struct OverlapChunks {
  // Length of a piece, by operator: the recorded length, scaled as the device's fits scale from the
  // whole message to a piece of it. 0: not split. Real collectives take what they take: 1.
  std::vector<int64_t> chunk_ns;
  int64_t split = 0;    // collectives that are
  std::string why_not;  // what is missing for all or some of them
};

// `fits` may be null; only stand-ins need it.
OverlapChunks overlap_chunks(const StepProgram& program, const DeviceModel* fits, int64_t ranks,
                             bool nccl);

}  // namespace preserve
