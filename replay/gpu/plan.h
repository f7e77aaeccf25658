// SPDX-License-Identifier: Apache-2.0
// What a replay needs of a GPU, and what it refuses: decided before anything runs there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "replay/gpu/overlap.h"
#include "replay/gpu/step_graph.h"
#include "replay/step/job.h"

namespace preserve {

struct GpuPlan {
  std::vector<ReplayArm> arms;  // the job's with settled methods, and overlap where it can be run
  GraphRules rules;
  int64_t hot_bytes = 0, useless_bytes = 0;
  int64_t memory_bytes = 0;  // of one rank
  int64_t products = 0;      // operators rebuilt as matrix products
  int64_t overlapped = 0;    // collectives that arm overlap splits
  std::vector<std::string> warnings;
};

// `nccl`: collectives are real. `fits` may be null. `multiplies`: what the device can multiply.
// input_error when an arm fetches in a way that this GPU cannot, or a link is to be imitated with
// real collectives.
GpuPlan plan_for_gpu(const ReplayJob& job, const ReplayRequest& request, const GpuFacts& facts,
                     std::vector<GpuElement> multiplies, bool nccl, const DeviceModel* fits);

// input_error for a GPU that nothing can be measured on: a slice (MIG), an old driver or device.
void require_usable(const GpuFacts& facts);
// input_error saying how much is needed.
void require_memory(const GpuPlan& plan, const GpuFacts& facts);
// input_error when the schedule was planned for another kind of device.
void require_planned_device(const Schedule& schedule, const std::filesystem::path& schedule_path,
                            const GpuFacts& facts, bool allow_mismatch);

// Other users of the GPU, in words; empty: none detected. Asked before our own work.
std::string other_use(const GpuState& state);

}  // namespace preserve
