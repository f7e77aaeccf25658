// SPDX-License-Identifier: Apache-2.0
// A step as one CUDA graph: kernels are added node by node, libraries' calls are captured.
#include <algorithm>

#include "common/no_copy.h"
#include "replay/cuda/error.h"
#include "replay/cuda/step/graph.h"

namespace preserve::cuda {
namespace {

using Nodes = std::vector<cudaGraphNode_t>;

class Graph : NoCopy {
 public:
  Graph() { PRESERVE_CUDA_CALL(cudaGraphCreate, &graph_, 0); }
  ~Graph() { cudaGraphDestroy(graph_); }
  cudaGraph_t get() const { return graph_; }

 private:
  cudaGraph_t graph_ = nullptr;
};

// A capture that is ended in any case.
class Capture : NoCopy {
 public:
  Capture(cudaStream_t stream, cudaGraph_t graph, const Nodes& after) : stream_(stream) {
    PRESERVE_CUDA_CALL(cudaStreamBeginCaptureToGraph, stream, graph, after.data(), nullptr,
                       after.size(), cudaStreamCaptureModeRelaxed);
    open_ = true;
  }
  ~Capture() {
    cudaGraph_t ignored = nullptr;
    if (open_) cudaStreamEndCapture(stream_, &ignored);
  }
  // The nodes that whatever follows has to wait for.
  Nodes end() {
    cudaStreamCaptureStatus status{};
    const cudaGraphNode_t* nodes = nullptr;
    const cudaGraphEdgeData* edges = nullptr;  // asked for, as the query fails where they matter
    size_t count = 0;
    PRESERVE_CUDA_CALL(cudaStreamGetCaptureInfo, stream_, &status, nullptr, nullptr, &nodes, &edges,
                       &count);
    if (status != cudaStreamCaptureStatusActive) {
      throw internal_error("a library broke the capture of its call");
    }
    Nodes last(nodes, nodes + count);
    open_ = false;
    cudaGraph_t graph = nullptr;
    PRESERVE_CUDA_CALL(cudaStreamEndCapture, stream_, &graph);
    return last;
  }

 private:
  cudaStream_t stream_;
  bool open_ = false;
};

class GraphLauncher : public StepLauncher {
 public:
  GraphLauncher(const StepPlan& plan, const StepData& data, cudaStream_t main, cudaStream_t capture)
      : plan_(plan), main_(main), capture_(capture) {
    for (size_t i = 0; i < plan.nodes.size(); ++i) add(i, data);
    check_instantiated(cudaGraphInstantiate(&executable_, graph_.get(), 0));
    const cudaError_t error = cudaGraphUpload(executable_, main);
    if (error != cudaSuccess) cudaGraphExecDestroy(executable_);
    check_cuda(error, "cudaGraphUpload");
  }
  ~GraphLauncher() override { cudaGraphExecDestroy(executable_); }

  void launch() override { PRESERVE_CUDA_CALL(cudaGraphLaunch, executable_, main_); }

 private:
  void add(size_t index, const StepData& data) {
    const StepNode& step = plan_.nodes[index];
    if (step.role == StepRole::closing) {
      ClosingArgs args = data.closing();
      last_.push_back(add_kernel(closing_kernel(), 1, &args, step));
      return;
    }
    const Launch& launch = data.launches()[index];
    if (launch.library) {
      Capture capture(capture_, graph_.get(), last_of(step));
      launch.library(capture_);
      last_.push_back(capture.end());
      return;
    }
    NodeArgs args = launch.args;
    last_.push_back(add_kernel(launch.kernel, launch.blocks, &args, step));
  }

  // What a node waits for. A library's call may have become several nodes, or none.
  Nodes last_of(const StepNode& step) const {
    Nodes all;
    for (const int before : step.after) {
      for (const cudaGraphNode_t node : last_[before]) {
        if (std::ranges::find(all, node) == all.end()) all.push_back(node);
      }
    }
    return all;
  }

  Nodes add_kernel(const Kernel& kernel, unsigned blocks, void* args, const StepNode& step) {
    void* arguments[] = {args};
    cudaGraphNodeParams parameters{};
    parameters.type = cudaGraphNodeTypeKernel;
    parameters.kernel.func = const_cast<void*>(kernel.function);
    parameters.kernel.gridDim = dim3(blocks);
    parameters.kernel.blockDim = dim3(static_cast<unsigned>(kernel.threads));
    parameters.kernel.kernelParams = arguments;
    const Nodes after = last_of(step);
    std::vector<cudaGraphEdgeData> edges(after.size());
    if (step.with_start_of) {
      check_start_edge(after);
      edges[0].from_port = cudaGraphKernelNodePortLaunchCompletion;
      edges[0].type = cudaGraphDependencyTypeProgrammatic;
      has_start_edges_ = true;
    }
    cudaGraphNode_t node = nullptr;
    const cudaError_t error = cudaGraphAddNode(&node, graph_.get(), after.data(), edges.data(),
                                               after.size(), &parameters);
    if (step.with_start_of && error != cudaSuccess) refuse_start_edges(error);
    check_cuda(error, "cudaGraphAddNode");
    return {node};
  }

  void check_start_edge(const Nodes& after) const {
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    if (after.size() == 1) PRESERVE_CUDA_CALL(cudaGraphNodeGetType, after[0], &type);
    if (type != cudaGraphNodeTypeKernel) {
      throw input_error(
          "the start of a library call of several kernels cannot be an edge: use the prefetch as "
          "a leaf of the graph");
    }
  }

  void check_instantiated(cudaError_t error) {
    if (error != cudaSuccess && has_start_edges_) refuse_start_edges(error);
    check_cuda(error, "cudaGraphInstantiate");
  }
  [[noreturn]] static void refuse_start_edges(cudaError_t error) {
    cudaGetLastError();
    throw input_error(
        "the driver takes no edge from the start of a kernel ({}): update it, or use "
        "leaves",
        cudaGetErrorString(error));
  }

  const StepPlan& plan_;
  cudaStream_t main_, capture_;
  Graph graph_;
  std::vector<Nodes> last_;  // by StepPlan node
  bool has_start_edges_ = false;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::unique_ptr<StepLauncher> make_graph_launcher(const StepPlan& plan, const StepData& data,
                                                  cudaStream_t main, cudaStream_t capture) {
  return std::make_unique<GraphLauncher>(plan, data, main, capture);
}

}  // namespace preserve::cuda
