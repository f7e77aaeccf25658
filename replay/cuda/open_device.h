// SPDX-License-Identifier: Apache-2.0
// Opening a GPU and its facts.
#pragma once

#include <string>
#include <vector>

#include "replay/cuda/libraries/nvml.h"
#include "replay/gpu/device.h"

namespace preserve::cuda {

// Makes the GPU with that ordinal the current one of this thread and creates its context.
// input_error for everything that is missing.
void open_current_device(int ordinal);

std::string pci_bus_id(int ordinal);
GpuFacts facts_of(int ordinal, Nvml& nvml);

// Processes that appeared on the GPU when this one came, and this one: inside a container the
// driver knows it by a number that getpid() does not give.
std::vector<int64_t> own_pids(const std::vector<int64_t>& before,
                              const std::vector<int64_t>& after);

}  // namespace preserve::cuda
