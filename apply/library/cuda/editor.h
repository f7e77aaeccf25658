// SPDX-License-Identifier: Apache-2.0
// Adds the plan's prefetches to a program's graph before it is instantiated: kernel nodes that wait
// for the beginning of a collective, and that nothing waits for. Which nodes and edges are added
// follows from the names of the graph's kernels alone, never from an address, so that a graph that
// is captured again can update the executable one of the first capture. Allocates no heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "apply/graph_plan_file.h"
#include "apply/library/cuda/driver.h"
#include "apply/library/cuda/prefetch_args.h"
#include "apply/library/cuda/scratch.h"
#include "apply/library/cuda/template_graph.h"
#include "apply/library/tensors.h"

namespace preserve::apply {

// What a context has for our nodes.
struct PrefetchKernel {
  CUcontext context = nullptr;
  CUfunction function = nullptr;      // nullptr: could not be loaded
  CUdeviceptr applied = 0;            // its PrefetchSwitch
  int device = 0;                     // of the context
  int priority = 0;                   // the lowest
  uint32_t most_blocks = UINT32_MAX;  // that can run at once
  // Edges that wait for the beginning of a kernel (CUDA 12.3). Without them a prefetch waits for
  // what the collective waits for.
  bool has_start_edges = false;
};

// Where nodes stand that were added to a graph: what every graph must have that updates an
// executable one which was made of that graph.
struct AddedShape {
  static constexpr uint32_t kTakenOut = UINT32_MAX;  // by the program
  uint32_t own_nodes = 0;            // of the program, all before those that were added
  std::span<const uint32_t> beside;  // for each that was added the number of a kernel among these
  friend bool operator==(const AddedShape& a, const AddedShape& b) {
    return a.own_nodes == b.own_nodes &&
           std::equal(a.beside.begin(), a.beside.end(), b.beside.begin(), b.beside.end());
  }
};

// Nodes that were added to one graph, in order. Its memory is its own.
class AddedNodes {
 public:
  const PrefetchKernel* kernel() const { return kernel_; }
  AddedShape shape() const { return {own_nodes_, beside_}; }
  // nullptr: the program has taken it out.
  std::span<const CUgraphNode> nodes() const { return nodes_; }
  uint64_t fetched_bytes() const { return fetched_bytes_; }  // per launch, with what was found
  uint64_t missing_bytes() const { return missing_bytes_; }  // whose operands were not found
  // Where the allocations begin that it fetches from, ascending.
  std::span<const CUdeviceptr> allocations() const { return allocations_.first(found_); }
  // Some of these were freed since it was edited or refreshed.
  bool is_stale() const { return stale_; }
  void set_stale() { stale_ = true; }
  // The last take_out: some could not be taken out of the graph.
  bool left() const { return left_; }
  // In its graph, with the program's own, unless the program has changed that since.
  size_t nodes_then() const {
    return own_nodes_ + nodes_.size() -
           static_cast<size_t>(std::count(nodes_.begin(), nodes_.end(), nullptr));
  }
  void forget() {
    stale_ = false, graph_ = nullptr, nodes_ = {}, slices_ = {}, allocations_ = {}, found_ = 0;
    own_nodes_ = 0, beside_ = {};
    memory_.give_back();
  }
  // The program has taken `node` out of its graph: one of its own, whose parameters are read no
  // more, or of ours.
  void forget(CUgraphNode node) {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i] != node) continue;
      nodes_[i] = nullptr;
      beside_[i] = AddedShape::kTakenOut;
    }
    for (Slice& slice : slices_) {
      if (slice.consumer == node) slice.consumer = nullptr;
    }
  }

 private:
  friend class Editor;
  struct Slice {
    CUgraphNode consumer;  // nullptr: is not in the graph
    const GraphSlice* plan;
    uint32_t added;  // number of the node that fetches it
  };
  CUgraph graph_ = nullptr;  // nullptr: none
  const PrefetchKernel* kernel_ = nullptr;
  Scratch memory_;
  std::span<CUgraphNode> nodes_;
  uint32_t own_nodes_ = 0;
  std::span<uint32_t> beside_;
  std::span<Slice> slices_;
  std::span<CUdeviceptr> allocations_;
  size_t found_ = 0;  // of these
  bool stale_ = false, left_ = false;
  uint64_t fetched_bytes_ = 0, missing_bytes_ = 0;
};

class Editor {
 public:
  // All must live on.
  Editor(const Driver& driver, const GraphPlanView& plan, const Tensors& names)
      : driver_(driver), plan_(plan), names_(names) {}

  // Anything but none: the graph has what it had before, and `added` has nothing. `error`: of
  // Refusal::failed.
  Refusal edit(CUgraph graph, const PrefetchKernel& kernel, AddedNodes& added, CUresult& error);
  // The same for a graph of any kernels: nodes of this shape, which fetch nothing. By few calls of
  // the driver, each of which is tried twice: without these nodes the program's update is refused.
  Refusal edit(CUgraph graph, const PrefetchKernel& kernel, const AddedShape& shape,
               AddedNodes& added, CUresult& error);
  // Looks up the addresses in an edited graph again, which the program may have changed.
  CUresult refresh(AddedNodes& added);
  // Each is tried twice.
  CUresult take_out(AddedNodes& added);

 private:
  struct Match {
    Refusal refusal = Refusal::none;
    uint32_t first = 0;  // position in the step of the graph's first kernel
  };
  Match match(std::span<const TemplateGraph::Kernel> kernels) const;
  // Position in `kernels` of one of the step; kernels.size() when it is missing.
  size_t place(uint32_t of_step, uint32_t first, size_t kernels) const;
  Refusal list_slices(const TemplateGraph& graph, uint32_t first, AddedNodes& added) const;
  CUresult fill(AddedNodes& added, uint32_t node, std::span<const AddedNodes::Slice> slices,
                PrefetchArgs& args) const;
  CUdeviceptr operand(const AddedNodes::Slice& slice, CUresult& error) const;
  bool is_live(AddedNodes& added, CUdeviceptr begin, uint64_t bytes, CUresult& error) const;
  template <typename Params>
  void set_kernel(const PrefetchKernel& kernel, void** arguments, Params& params) const;
  CUresult add(TemplateGraph& graph, const TemplateGraph::Kernel& beside, PrefetchArgs& args,
               AddedNodes& added, uint32_t node) const;

  const Driver& driver_;
  const GraphPlanView& plan_;
  const Tensors& names_;
};

}  // namespace preserve::apply
