// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/template_graph.h"

#include <cstring>

#include "apply/kernel_name.h"

namespace preserve::apply {
namespace {

// A node names a CUfunction or, since CUDA 12, a CUkernel, in `kern` or in the place of the former;
// the driver refuses the wrong kind.
CUkernel kernel_of(const CUDA_KERNEL_NODE_PARAMS& params) {
  return params.func == nullptr ? params.kern : reinterpret_cast<CUkernel>(params.func);
}

bool is_known(const CUgraphEdgeData& edge) {
  bool known = edge.to_port == 0 && edge.type <= CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC &&
               edge.from_port <= CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER;
  for (const unsigned char byte : edge.reserved) known = known && byte == 0;
  return known;
}

CUresult parameter_layout(const Driver& driver, const CUDA_KERNEL_NODE_PARAMS& params, size_t index,
                          size_t& offset, size_t& bytes) {
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  if (params.func != nullptr) {
    result = driver.function_parameter(params.func, index, &offset, &bytes);
  }
  if (result == CUDA_SUCCESS) return result;
  return driver.kernel_parameter(kernel_of(params), index, &offset, &bytes);
}

}  // namespace

bool TemplateGraph::ok(CUresult result) {
  if (result != CUDA_SUCCESS) error_ = result;
  return result == CUDA_SUCCESS;
}

Refusal TemplateGraph::read(CUgraph graph) {
  Refusal refusal = read_shape(graph);
  if (refusal == Refusal::none && !order()) refusal = Refusal::unknown_edge;
  if (refusal == Refusal::none) refusal = read_kernels();
  return refusal;
}

Refusal TemplateGraph::read_shape(CUgraph graph) {
  size_t nodes = 0, edges = 0;
  if (!ok(driver_.graph_nodes(graph, nullptr, &nodes)) ||
      !ok(driver_.graph_edges(graph, nullptr, nullptr, nullptr, &edges))) {
    return Refusal::failed;
  }
  if (nodes > kMostNodes || edges > kMostEdges) return Refusal::too_large;
  const size_t slots = HandleTable::slots(nodes);
  if (!memory_.reserve(
          2 * Scratch::bytes_of<HandleTable::Slot>(slots) + Scratch::bytes_of<CUgraphNode>(nodes) +
          Scratch::bytes_of<Kernel>(nodes) + 2 * Scratch::bytes_of<CUgraphNode>(edges) +
          Scratch::bytes_of<CUgraphEdgeData>(edges) + 3 * Scratch::bytes_of<uint32_t>(edges) +
          4 * Scratch::bytes_of<uint32_t>(nodes + 1))) {
    return Refusal::no_memory;
  }
  slots_ = memory_.take<HandleTable::Slot>(slots);
  names_ = memory_.take<HandleTable::Slot>(slots);
  nodes_ = memory_.take<CUgraphNode>(nodes);
  kernels_ = memory_.take<Kernel>(nodes);
  from_ = memory_.take<CUgraphNode>(edges);
  to_ = memory_.take<CUgraphNode>(edges);
  edges_ = memory_.take<CUgraphEdgeData>(edges);
  from_index_ = memory_.take<uint32_t>(edges);
  to_index_ = memory_.take<uint32_t>(edges);
  edge_order_ = memory_.take<uint32_t>(edges);
  first_edge_ = memory_.take<uint32_t>(nodes + 1);
  waits_ = memory_.take<uint32_t>(nodes + 1);
  order_ = memory_.take<uint32_t>(nodes + 1);
  marks_ = memory_.take<uint32_t>(nodes + 1);
  Refusal refusal = read_nodes(graph);
  if (refusal == Refusal::none) refusal = read_edges(graph);
  return refusal;
}

Refusal TemplateGraph::read_nodes(CUgraph graph) {
  size_t count = nodes_.size();
  if (count == 0) return Refusal::none;
  if (!ok(driver_.graph_nodes(graph, nodes_.data(), &count))) return Refusal::failed;
  if (count != nodes_.size()) return Refusal::changing;  // by another thread
  HandleTable table(slots_);
  for (size_t i = 0; i < count; ++i) table.at(nodes_[i]) = {nodes_[i], i};
  return Refusal::none;
}

Refusal TemplateGraph::read_edges(CUgraph graph) {
  size_t count = edges_.size();
  if (count == 0) return Refusal::none;
  if (!ok(driver_.graph_edges(graph, from_.data(), to_.data(), edges_.data(), &count))) {
    return Refusal::failed;
  }
  if (count != edges_.size()) return Refusal::changing;
  HandleTable table(slots_);
  for (size_t i = 0; i < count; ++i) {
    const HandleTable::Slot &from = table.at(from_[i]), &to = table.at(to_[i]);
    if (from.handle == nullptr || to.handle == nullptr) return Refusal::changing;
    if (!is_known(edges_[i])) return Refusal::unknown_edge;
    from_index_[i] = static_cast<uint32_t>(from.value);
    to_index_[i] = static_cast<uint32_t>(to.value);
  }
  return Refusal::none;
}

// first_edge_ and edge_order_ by `ends`, those of one node in the order of the driver.
void TemplateGraph::sort_edges(std::span<const uint32_t> ends) {
  for (uint32_t& first : first_edge_) first = 0;
  for (uint32_t& mark : marks_) mark = 0;
  for (const uint32_t end : ends) ++first_edge_[end + 1];
  for (size_t i = 0; i < nodes_.size(); ++i) first_edge_[i + 1] += first_edge_[i];
  for (uint32_t i = 0; i < ends.size(); ++i) {
    edge_order_[first_edge_[ends[i]] + marks_[ends[i]]++] = i;
  }
}

// The order in which the driver lists the nodes, which is that of their creation, where that is a
// topological one, as after every capture; else by Kahn (1962), first come, first served. False
// when there is none.
bool TemplateGraph::order() {
  const auto nodes = static_cast<uint32_t>(nodes_.size());
  bool listed = true;
  for (size_t i = 0; i < edges_.size(); ++i) {
    ++waits_[to_index_[i]];
    listed = listed && from_index_[i] < to_index_[i];
  }
  for (uint32_t i = 0; i < nodes; ++i) order_[i] = i;
  if (listed) return true;
  sort_edges(from_index_);
  uint32_t ready = 0;
  for (uint32_t i = 0; i < nodes; ++i) {
    if (waits_[i] == 0) order_[ready++] = i;
  }
  for (uint32_t done = 0; done < ready; ++done) {
    const uint32_t node = order_[done];
    for (uint32_t i = first_edge_[node]; i < first_edge_[node + 1]; ++i) {
      const uint32_t next = to_index_[edge_order_[i]];
      if (--waits_[next] == 0) order_[ready++] = next;
    }
  }
  return ready == nodes;
}

Refusal TemplateGraph::name_of(const CUDA_KERNEL_NODE_PARAMS& params, uint64_t& name) {
  const CUkernel kernel = kernel_of(params);
  HandleTable::Slot& known = HandleTable(names_).at(kernel);
  if (known.handle == nullptr) {
    const char* text = nullptr;
    const bool function =
        params.func != nullptr && driver_.function_name(&text, params.func) == CUDA_SUCCESS;
    if (!function && !ok(driver_.kernel_name(&text, kernel))) return Refusal::failed;
    known = {kernel, kernel_name(text == nullptr ? "" : text)};
  }
  name = known.value;
  return Refusal::none;
}

Refusal TemplateGraph::read_kernels() {
  size_t count = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const CUgraphNode node = nodes_[order_[i]];
    CUgraphNodeType told{};
    if (!ok(driver_.node_type(node, &told))) return Refusal::failed;
    uint32_t type = 0;  // a newer driver's may be none of the enumeration's
    std::memcpy(&type, &told, sizeof(type));
    if (type == CU_GRAPH_NODE_TYPE_CONDITIONAL) return Refusal::conditional;
    if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_MEM_FREE) {
      return Refusal::memory_nodes;
    }
    if (type > CU_GRAPH_NODE_TYPE_BATCH_MEM_OP) return Refusal::unknown_node;
    if (type != CU_GRAPH_NODE_TYPE_KERNEL) continue;
    CUkernelNodeAttrValue attribute{};
    CUDA_KERNEL_NODE_PARAMS params{};
    if (!ok(driver_.kernel_attribute(node, CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE,
                                     &attribute)) ||
        !ok(driver_.kernel_params(node, &params))) {
      return Refusal::failed;
    }
    if (attribute.deviceUpdatableKernelNode.deviceUpdatable != 0) return Refusal::device_updatable;
    Kernel& kernel = kernels_[count++];
    kernel.node = node;
    kernel.index = order_[i];
    if (const Refusal refusal = name_of(params, kernel.name); refusal != Refusal::none) {
      return refusal;
    }
  }
  kernels_ = kernels_.first(count);
  return Refusal::none;
}

std::span<CUgraphNode> TemplateGraph::predecessors(const Kernel& kernel,
                                                   std::span<CUgraphNode> out) {
  if (mark_ == 0) {  // the first to ask
    sort_edges(to_index_);
    for (uint32_t& mark : marks_) mark = 0;
  }
  ++mark_;
  size_t count = 0;
  for (uint32_t i = first_edge_[kernel.index]; i < first_edge_[kernel.index + 1]; ++i) {
    const uint32_t edge = edge_order_[i];
    if (marks_[from_index_[edge]] == mark_) continue;
    marks_[from_index_[edge]] = mark_;
    out[count++] = from_[edge];
  }
  return out.first(count);
}

CUdeviceptr read_pointer(const Driver& driver, CUgraphNode node, uint32_t argument,
                         CUresult& error) {
  CUDA_KERNEL_NODE_PARAMS params{};
  error = driver.kernel_params(node, &params);
  if (error != CUDA_SUCCESS) return 0;
  CUdeviceptr pointer = 0;
  if (params.kernelParams == nullptr && params.extra != nullptr) {
    const char* buffer = nullptr;
    size_t bytes = 0;
    for (void** word = params.extra; *word != CU_LAUNCH_PARAM_END; word += 2) {
      if (word[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<const char*>(word[1]);
      if (word[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t*>(word[1]);
    }
    if (buffer != nullptr && argument + sizeof(pointer) <= bytes) {
      std::memcpy(&pointer, buffer + argument, sizeof(pointer));
    }
    return pointer;
  }
  if (params.kernelParams == nullptr) return 0;
  size_t offset = 0, bytes = 0;
  for (size_t i = 0; parameter_layout(driver, params, i, offset, bytes) == CUDA_SUCCESS; ++i) {
    if (argument < offset) break;
    if (argument - offset + sizeof(pointer) > bytes) continue;
    if (params.kernelParams[i] == nullptr) break;
    std::memcpy(&pointer, static_cast<const char*>(params.kernelParams[i]) + (argument - offset),
                sizeof(pointer));
    break;
  }
  return pointer;
}

}  // namespace preserve::apply
