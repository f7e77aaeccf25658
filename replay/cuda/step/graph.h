// SPDX-License-Identifier: Apache-2.0
// A prepared graph as something that can be launched: one CUDA graph, or kernels in two streams.
#pragma once

#include <memory>

#include "common/no_copy.h"
#include "replay/cuda/step/data.h"

namespace preserve::cuda {

// One execution of a step is put into the main stream.
class StepLauncher : NoCopy {
 public:
  virtual ~StepLauncher() = default;
  virtual void launch() = 0;
};

// Plan and data must outlive the launcher.
std::unique_ptr<StepLauncher> make_graph_launcher(const StepPlan& plan, const StepData& data,
                                                  cudaStream_t main, cudaStream_t capture);
std::unique_ptr<StepLauncher> make_stream_launcher(const StepPlan& plan, const StepData& data,
                                                   cudaStream_t main, cudaStream_t side);

class StepGraph {
 public:
  StepGraph(const DeviceParts& parts, GpuGraph graph, cudaStream_t main, cudaStream_t side);
  // internal_error when an execution did not run all nodes, or read other bytes than the first.
  GpuRun run(int times);

 private:
  void warm_up(cudaStream_t stream) const;
  void check(const StepTotals& totals, int times) const;

  GpuGraph graph_;
  StepPlan plan_;
  StepData data_;
  cudaStream_t main_;
  std::unique_ptr<StepLauncher> launcher_;
  Event begin_{true}, end_{true};
};

}  // namespace preserve::cuda
