// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate, the measuring half: runs in every rank process, all of them doing the same at
// the same time, pinned to neighbouring cores. Cold memory is memory that was last touched several
// cache sizes ago: each trial takes the next slice of a long arena.
#pragma once

#include "replay/calibrate/calibration.h"
#include "replay/ranks/group.h"

namespace preserve {

struct CalibrateOptions {
  int least = 5;  // repetitions, however long they take
  int most = 31;
  int64_t time_limit_ns = 4'000'000'000;  // of all measurements together; shared out evenly
};

// On rank 0 the samples of all ranks, elsewhere only this rank's. input_error when this machine has
// no cache that could be filled, or too little memory.
CalibrationSamples measure_cpu(const Ranks& ranks, const CalibrateOptions& options);

}  // namespace preserve
