// SPDX-License-Identifier: Apache-2.0
// State of a GPU from the driver's management library. Loaded when installed (libnvidia-ml.so.1
// comes with the driver); without it, or where it refuses, the fields stay empty.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/no_copy.h"
#include "replay/cuda/libraries/shared_library.h"
#include "replay/gpu/device.h"

namespace preserve::cuda {

// Reasons that hold the clocks down, as NVML's bits say them; empty for idling and for none.
std::string throttle_text(unsigned long long reasons);
// Payload bytes per second and direction of a PCI Express link; 0 for what is not known.
double pcie_bytes_per_s(unsigned generation, unsigned lanes);

class Nvml : NoCopy {
 public:
  // pci_bus_id: "0000:3b:00.0". `pause`, between two looks at how busy the GPU is: a tenth of a
  // second.
  explicit Nvml(const std::string& pci_bus_id, std::function<void()> pause = {});
  ~Nvml();

  std::string driver();                 // empty: not known
  double host_link_bytes_per_s();       // 0: not known
  bool mig();                           // the GPU is cut into slices
  std::vector<int64_t> compute_pids();  // all, this process too
  // other_pids: without `own_pids`. The first call may take two seconds.
  GpuState state(const std::vector<int64_t>& own_pids);

 private:
  struct Functions;
  std::optional<int> busy_percent();
  std::optional<int> busy_before();

  std::function<void()> pause_;
  std::unique_ptr<Functions> functions_;
  void* device_ = nullptr;                         // nullptr: nothing is known
  std::optional<std::optional<int>> busy_before_;  // nothing: not asked yet
};

}  // namespace preserve::cuda
