// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate, the measuring half: runs in every rank process, all of them doing the same at
// the same time, pinned to neighbouring cores. Cold memory is memory that was last touched several
// cache sizes ago: each trial takes the next slice of a long arena.
#pragma once

#include <functional>
#include <vector>

#include "replay/calibrate/calibration.h"
#include "replay/ranks/group.h"

namespace preserve {

struct CalibrateOptions {
  int64_t time_limit_ns = 10'000'000'000;
  // While the figures do not repeat it measures on, up to this many times the limit.
  int longest = 3;
  std::function<void(int64_t spent_ns)> progress{};  // on rank 0, after each round
};

// On rank 0 the samples of all ranks, round by round, those of each host apart; elsewhere nothing.
// Every round measures everything, in the same order, but large footprints, which take turns.
// input_error when this machine has no cache that could be filled, or too little memory, or when
// the hosts are not alike.
std::vector<CalibrationSamples> measure_cpu(const Ranks& ranks, const CalibrateOptions& options);

}  // namespace preserve
