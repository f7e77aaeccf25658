// SPDX-License-Identifier: Apache-2.0
// A program with a CUDA graph, on the emulated driver: its kernels mix what the kernels before them
// made into memory of their own, so that a wrong edge or a changed node shows in the result.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "apply/kernel_name.h"
#include "apply/library/cuda/editor.h"
#include "apply/plan_content.h"
#include "tests/replay/cuda/emulated_driver.h"
#include "tests/replay/cuda/emulated_graph.h"

namespace preserve::test {

void ok(CUresult result);  // throws when it is another

// Through the driver's table, every function of it emulated.
apply::Driver emulated_driver();
// Names that no plan of a test knows.
const apply::Tensors& no_names();
// Whether prefetch kernels do anything when they are launched.
extern bool runs_prefetches;
// The kernels of apply/library/cuda/prefetch.cu, as functions of the emulated driver.
apply::PrefetchKernel emulated_prefetch();

struct DeviceBlock {
  explicit DeviceBlock(size_t size) : bytes(size) { cudaMalloc(&memory, size); }
  ~DeviceBlock() { cudaFree(memory); }
  DeviceBlock(const DeviceBlock&) = delete;
  DeviceBlock& operator=(const DeviceBlock&) = delete;
  uint64_t address() const { return reinterpret_cast<uint64_t>(memory); }
  void* memory = nullptr;
  size_t bytes;
};

struct Step {
  struct Node {
    std::string kernel{};  // empty: no kernel
    std::vector<size_t> after{};
    bool programmatic = false;  // its first edge, where both ends are kernels
  };
  std::vector<Node> nodes;
};
// A chain of `layers` times three kernels, the last a collective.
Step decode_step(size_t layers);

class Program {
 public:
  // `weights`: every kernel is given a pointer to as many bytes of its own, as second parameter
  // (byte 8); 0: a null pointer.
  Program(const Step& step, size_t weight_bytes);
  ~Program() { give_up_graph(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  CUgraph graph() const { return graph_; }
  void give_up_graph() {  // the memory stays
    if (graph_ != nullptr) cuGraphDestroy(graph_);
    graph_ = nullptr;
  }
  CUgraphNode node(size_t index) const { return nodes_[index]; }
  uint64_t weight(size_t index) const { return weights_.address() + index * weight_bytes_; }
  // What the nodes have left, which is taken away.
  std::vector<uint64_t> left();
  // Of one launch of `executable`, which was made of this graph: what its nodes left.
  std::vector<uint64_t> result_of(CUgraphExec executable);
  // Of a fresh one.
  std::vector<uint64_t> result();

 private:
  size_t weight_bytes_;
  DeviceBlock results_, weights_;
  size_t count_;
  CUgraph graph_ = nullptr;
  std::vector<CUgraphNode> nodes_;
};

// A plan over the kernels of `step`: beside every `every`-th kernel `slices` of what the `ahead`-th
// kernel after it reads.
struct PlanShape {
  size_t every = 3, first = 2, ahead = 1, slices = 2;
  uint64_t slice_bytes = 256;
};
class Plan {
 public:
  Plan(const Step& step, const PlanShape& shape, const std::string& folder = "/tmp");
  const apply::GraphPlanView& view() const { return view_; }
  apply::GraphPlanContent content;
  void encode();

 private:
  std::vector<std::byte> file_;
  apply::GraphPlanView view_;
};

}  // namespace preserve::test
