// SPDX-License-Identifier: Apache-2.0
// A step launched node by node into two streams, which wait for each other by events.
#include <map>

#include "replay/cuda/error.h"
#include "replay/cuda/step/graph.h"

namespace preserve::cuda {
namespace {

class StreamLauncher : public StepLauncher {
 public:
  StreamLauncher(const StepPlan& plan, const StepData& data, cudaStream_t main, cudaStream_t side)
      : plan_(plan), data_(data), streams_{main, side} {
    for (const StepNode& step : plan.nodes) {
      for (const int before : step.after) {
        if (step.with_start_of) {
          check_start(step, before);
          begun_.try_emplace(before, false);
        } else if (stream_of(before) != step.stream) {
          ended_.try_emplace(before, false);
        }
      }
    }
  }

  void launch() override {
    PRESERVE_CUDA_CALL(cudaEventRecord, step_begun_.get(), streams_[0]);
    PRESERVE_CUDA_CALL(cudaStreamWaitEvent, streams_[1], step_begun_.get(), 0);
    for (size_t i = 0; i < plan_.nodes.size(); ++i) launch_node(static_cast<int>(i));
  }

 private:
  int stream_of(int node) const { return plan_.nodes[node].stream; }

  void check_start(const StepNode& step, int before) const {
    if (stream_of(before) == step.stream) {
      throw internal_error("a node that begins with another needs the other stream");
    }
    const bool library = data_.launches()[before].library != nullptr;
    if (library) {
      throw input_error(
          "the start of a library call cannot be an event: use the prefetch as a leaf");
    }
  }

  void launch_node(int index) {
    const StepNode& step = plan_.nodes[index];
    cudaStream_t stream = streams_[step.stream];
    for (const int before : step.after) {
      auto& events = step.with_start_of ? begun_ : ended_;
      const auto event = events.find(before);
      if (event == events.end() || stream_of(before) == step.stream) continue;
      PRESERVE_CUDA_CALL(cudaStreamWaitEvent, stream, event->second.get(), 0);
    }
    if (step.role == StepRole::closing) {
      ClosingArgs args = data_.closing();
      launch_kernel(closing_kernel(), 1, &args, stream, nullptr);
    } else {
      const Launch& launch = data_.launches()[index];
      if (launch.library) {
        launch.library(stream);
      } else {
        NodeArgs args = launch.args;
        const auto begun = begun_.find(index);
        launch_kernel(launch.kernel, launch.blocks, &args, stream,
                      begun == begun_.end() ? nullptr : begun->second.get());
      }
    }
    if (const auto ended = ended_.find(index); ended != ended_.end()) {
      PRESERVE_CUDA_CALL(cudaEventRecord, ended->second.get(), stream);
    }
  }

  // `begun`, if any, is recorded when all blocks have begun.
  static void launch_kernel(const Kernel& kernel, unsigned blocks, void* args, cudaStream_t stream,
                            cudaEvent_t begun) {
    void* arguments[] = {args};
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeLaunchCompletionEvent;
    attribute.val.launchCompletionEvent.event = begun;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(static_cast<unsigned>(kernel.threads));
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = begun == nullptr ? 0 : 1;
    PRESERVE_CUDA_CALL(cudaLaunchKernelExC, &config, kernel.function, arguments);
  }

  const StepPlan& plan_;
  const StepData& data_;
  cudaStream_t streams_[2];
  Event step_begun_{false};
  std::map<int, Event> begun_, ended_;  // by StepPlan node
};

}  // namespace

std::unique_ptr<StepLauncher> make_stream_launcher(const StepPlan& plan, const StepData& data,
                                                   cudaStream_t main, cudaStream_t side) {
  return std::make_unique<StreamLauncher>(plan, data, main, side);
}

}  // namespace preserve::cuda
