// SPDX-License-Identifier: Apache-2.0
// A graph made ready for the device: tables and books in device memory, an argument for every
// kernel, a call for every node that a library carries out.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

#include "replay/cuda/device_memory.h"
#include "replay/cuda/kernels/kernels.h"
#include "replay/cuda/libraries/matrix_product.h"
#include "replay/cuda/libraries/nccl.h"
#include "replay/cuda/step/plan.h"
#include "replay/cuda/step/range_table.h"

namespace preserve::cuda {

// What graphs use of the device that they run on.
struct DeviceParts {
  GpuFacts facts;
  ClockRate* clock = nullptr;             // device memory
  const uint8_t* sm_halves = nullptr;     // device memory; nullptr: L2 is not split
  std::function<void*()> link_buffer;     // mapped host memory of kLinkBufferBytes, made on demand
  std::function<int(const Kernel&)> fit;  // blocks of a kernel that an SM holds at once
  Nccl* nccl = nullptr;
  MatrixProducts* products = nullptr;
};
inline constexpr uint64_t kLinkBufferBytes = 4 << 20;  // a power of two; more is written round it

// One node on the device: a kernel with its argument, or what a library puts into a stream.
struct Launch {
  Kernel kernel{};
  unsigned blocks = 0;
  NodeArgs args{};
  std::function<void(cudaStream_t)> library = {};  // when set, there is no kernel
};

class StepData {
 public:
  StepData(const DeviceParts& parts, const GpuGraph& graph, const StepPlan& plan);

  // By StepPlan node, without the closing one.
  const std::vector<Launch>& launches() const { return launches_; }
  const ClosingArgs& closing() const { return closing_; }
  std::vector<StampMeans> read_slots(uint64_t steps) const;
  StepTotals read_totals() const;

 private:
  struct Offsets {
    size_t reads = 0, writes = 0;
    int share = -1;
  };
  Offsets add_tables(const GpuNode& node);
  void set_work(const GpuNode& node, const Offsets& offsets, Launch& launch) const;
  void set_grid(const GpuNode& node, Launch& launch) const;
  void set_kernel(const GpuNode& node, Launch& launch) const;
  void prepare_libraries(const GpuGraph& graph);
  std::function<void(cudaStream_t)> product_call(const GpuNode& node, size_t piece) const;
  std::function<void(cudaStream_t)> collective_call(const GpuNode& node) const;

  const DeviceParts& parts_;
  DeviceImage image_;
  DeviceMemory memory_;
  int shares_ = 0;
  std::vector<Launch> launches_;
  ClosingArgs closing_{};

  struct Piece {
    MatrixProducts::Scratch bytes;
    DeviceMemory activations, result, workspace;
  };
  std::vector<int> piece_of_;  // by GpuGraph node
  std::vector<Piece> pieces_;
  DeviceMemory send_, receive_;
};

// The pattern of gpu/device.h; bytes are rounded up to 16, which the memory must hold.
void fill_pattern(void* memory, size_t bytes, cudaStream_t stream);

}  // namespace preserve::cuda
