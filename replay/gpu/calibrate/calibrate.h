// SPDX-License-Identifier: Apache-2.0
// Calibration of a GPU, the measuring half: experiments as graphs on a GpuDevice. Cold memory is
// memory that was last touched before several L2s of other memory were read. All experiments of a
// phase run once per round, every other round in reverse order; the first round is left out, and
// rounds with held-down clocks are. The second phase needs what the first one found.
#pragma once

#include <functional>
#include <string_view>

#include "replay/gpu/calibrate/calibration.h"

namespace preserve {

struct GpuCalibrateOptions {
  int64_t time_limit_ns = 60'000'000'000;  // of both phases; each measures least_rounds in any case
  int least_rounds = 3;
  int most_rounds = 25;
  int runs_per_value = 8;
  bool every_chunk = true;         // of the grid; else every third
  std::function<int64_t()> clock;  // ns; empty: the machine's
  std::function<void(std::string_view phase, double done, double total)> progress;
};

// Bytes of device memory that calibrating takes.
int64_t calibration_bytes(const GpuFacts& facts);

// input_error for a slice of a GPU (MIG), one without L2, and too little free memory.
GpuCalibrationSamples measure_gpu(GpuDevice& device, const GpuCalibrateOptions& options);

}  // namespace preserve
