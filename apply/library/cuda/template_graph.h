// SPDX-License-Identifier: Apache-2.0
// A program's graph before it is instantiated, read through the driver: nodes, edges, its kernels
// in topological order with their names. Nothing is changed.
#pragma once

#include <cstdint>
#include <span>

#include "apply/graph_plan_file.h"
#include "apply/library/cuda/driver.h"
#include "apply/library/cuda/scratch.h"
#include "apply/outcome_file.h"

namespace preserve::apply {

inline constexpr size_t kMostNodes = 1 << 18, kMostEdges = 1 << 20;

class TemplateGraph {
 public:
  explicit TemplateGraph(const Driver& driver) : driver_(driver) {}

  // Anything but none: nothing else may be asked of it.
  Refusal read(CUgraph graph);
  // Nodes and edges alone: no kernels.
  Refusal read_shape(CUgraph graph);
  CUresult error() const { return error_; }  // of Refusal::failed

  struct Kernel {
    CUgraphNode node;
    uint32_t index;  // of the node
    uint64_t name;
  };
  std::span<const Kernel> kernels() const { return kernels_; }  // in topological order
  uint32_t nodes() const { return static_cast<uint32_t>(nodes_.size()); }
  CUgraphNode node(uint32_t index) const { return nodes_[index]; }  // as the driver lists them

  // The nodes that `kernel` waits for, without duplicates, in the order of the driver's edges.
  // `out` has room for as many as there are nodes.
  std::span<CUgraphNode> predecessors(const Kernel& kernel, std::span<CUgraphNode> out);

 private:
  Refusal read_nodes(CUgraph graph);
  Refusal read_edges(CUgraph graph);
  bool order();
  void sort_edges(std::span<const uint32_t> ends);
  Refusal read_kernels();
  Refusal name_of(const CUDA_KERNEL_NODE_PARAMS& params, uint64_t& name);
  bool ok(CUresult result);

  const Driver& driver_;
  CUresult error_ = CUDA_SUCCESS;
  Scratch memory_;
  std::span<CUgraphNode> nodes_, from_, to_;
  std::span<CUgraphEdgeData> edges_;
  std::span<uint32_t> from_index_, to_index_;
  std::span<uint32_t> first_edge_, edge_order_;  // edges by the node at one of their ends
  std::span<uint32_t> waits_, order_, marks_;
  std::span<Kernel> kernels_;
  std::span<HandleTable::Slot> slots_, names_;
  uint32_t mark_ = 0;
};

// Where the parameter of `node` at byte `argument` points; 0 when there is none.
CUdeviceptr read_pointer(const Driver& driver, CUgraphNode node, uint32_t argument,
                         CUresult& error);

}  // namespace preserve::apply
