// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/step/graph.h"

#include <algorithm>
#include <chrono>

#include "replay/cuda/error.h"

namespace preserve::cuda {
namespace {

// The driver holds about a thousand launches; then launching waits for the device, which is not
// what launching costs.
constexpr int kTimedLaunches = 64;

void launch_books(const Kernel& kernel, const ClosingArgs& books, cudaStream_t stream) {
  ClosingArgs args = books;
  void* arguments[] = {&args};
  PRESERVE_CUDA_CALL(cudaLaunchKernel, kernel.function, dim3(1),
                     dim3(static_cast<unsigned>(kernel.threads)), arguments, 0, stream);
}

double ns_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

StepGraph::StepGraph(const DeviceParts& parts, GpuGraph graph, cudaStream_t main, cudaStream_t side)
    : graph_(std::move(graph)), plan_(plan_step(graph_)), data_(parts, graph_, plan_), main_(main) {
  warm_up(side);
  launcher_ = graph_.as_graph ? make_graph_launcher(plan_, data_, main, side)
                              : make_stream_launcher(plan_, data_, main, side);
}

// Libraries connect, load and choose at their first call, which would disturb a capture.
void StepGraph::warm_up(cudaStream_t stream) const {
  for (const Launch& launch : data_.launches()) {
    if (launch.library) launch.library(stream);
  }
  PRESERVE_CUDA_CALL(cudaStreamSynchronize, stream);
}

GpuRun StepGraph::run(int times) {
  if (times <= 0) throw internal_error("a GPU graph is to run {} times", times);
  launch_books(opening_kernel(), data_.closing(), main_);
  PRESERVE_CUDA_CALL(cudaEventRecord, begin_.get(), main_);
  const int timed = std::min(times, kTimedLaunches);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < timed; ++i) launcher_->launch();
  GpuRun run;
  run.launch_ns = ns_since(begin) / timed;
  for (int i = timed; i < times; ++i) launcher_->launch();
  PRESERVE_CUDA_CALL(cudaEventRecord, end_.get(), main_);
  PRESERVE_CUDA_CALL(cudaEventSynchronize, end_.get());
  float ms = 0;
  PRESERVE_CUDA_CALL(cudaEventElapsedTime, &ms, begin_.get(), end_.get());
  run.step_ns = static_cast<double>(ms) * 1e6 / times;
  const StepTotals totals = data_.read_totals();
  check(totals, times);
  run.checksum = totals.checksum;
  fill_operator_times(graph_, plan_, data_.read_slots(totals.steps), run);
  return run;
}

void StepGraph::check(const StepTotals& totals, int times) const {
  if (totals.steps != static_cast<uint64_t>(times)) {
    throw internal_error("{} of {} executions of a GPU graph were closed", totals.steps, times);
  }
  if (totals.missing_stamps > 0) {
    throw internal_error("{} nodes of a GPU graph did not run", totals.missing_stamps);
  }
  if (totals.differing_steps > 0) {
    throw internal_error("{} of {} executions of a GPU graph read other bytes than the first",
                         totals.differing_steps, times);
  }
}

}  // namespace preserve::cuda
