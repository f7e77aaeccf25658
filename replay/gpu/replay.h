// SPDX-License-Identifier: Apache-2.0
// A replay on GPUs inside each rank's process: one GPU per rank where collectives are real, one in
// all with stand-ins otherwise.
#pragma once

#include <string>

#include "replay/gpu/device.h"
#include "replay/gpu/plan.h"
#include "replay/measure/on_ranks.h"

namespace preserve {

struct GpuReplay {
  bool nccl = false;
  bool allow_device_mismatch = false;
  const DeviceModel* fits = nullptr;  // of collectives, for arm overlap
};

// Checks the device, rebuilds, measures. The record is whole on rank 0 alone. Collective over all
// ranks; `say` gets what is about to happen.
ReplayRecord replay_on_gpu(const Ranks& ranks, GpuDevice& device, const ReplayJob& job,
                           const ReplayRequest& request, const GpuReplay& how,
                           const MeasureOptions& options,
                           const std::function<void(const std::string&)>& say);

}  // namespace preserve
