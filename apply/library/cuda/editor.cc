// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/editor.h"

#include <iterator>

namespace preserve::apply {
namespace {

constexpr uint64_t kAlign = 16;  // of bulk requests
// Allocations that a graph fetches from beyond one for each slice: memory that is mapped piece by
// piece, as by PyTorch's expandable segments, is several.
constexpr size_t kSpareAllocations = 1024;

uint32_t nodes_of(const GraphWindow& window) {
  return (window.slices + kMostRanges - 1) / kMostRanges;
}

}  // namespace

// The graph's kernels as a part of the step, which may go on from its end at its beginning,
// searched for as by Knuth, Morris and Pratt (1977).
Editor::Match Editor::match(std::span<const TemplateGraph::Kernel> kernels) const {
  const std::span<const uint64_t> step = plan_.kernels();
  const size_t size = kernels.size();
  if (size == 0 || size > step.size()) return {Refusal::another_step};
  Scratch memory;
  if (!memory.reserve(Scratch::bytes_of<uint32_t>(size + 1))) return {Refusal::no_memory};
  const std::span<uint32_t> border = memory.take<uint32_t>(size + 1);  // of each prefix
  uint32_t length = 0;
  for (size_t i = 1; i < size; ++i) {
    while (length > 0 && kernels[length].name != kernels[i].name) length = border[length];
    if (kernels[length].name == kernels[i].name) ++length;
    border[i + 1] = length;
  }
  Match found{Refusal::another_step};
  length = 0;
  for (size_t i = 0; i < step.size() + size - 1; ++i) {
    const uint64_t name = step[i % step.size()];
    if (length == size) length = border[length];
    while (length > 0 && kernels[length].name != name) length = border[length];
    if (kernels[length].name == name) ++length;
    if (length < size) continue;
    if (found.refusal == Refusal::none) return {Refusal::ambiguous};
    found = {Refusal::none, static_cast<uint32_t>(i + 1 - size)};
  }
  return found;
}

size_t Editor::place(uint32_t of_step, uint32_t first, size_t kernels) const {
  const size_t step = plan_.kernels().size();
  return std::min((of_step + step - first) % step, kernels);
}

Refusal Editor::list_slices(const TemplateGraph& graph, uint32_t first, AddedNodes& added) const {
  const std::span<const TemplateGraph::Kernel> kernels = graph.kernels();
  size_t nodes = 0, slices = 0;
  for (const GraphWindow& window : plan_.windows()) {
    if (place(window.kernel, first, kernels.size()) == kernels.size()) continue;
    nodes += nodes_of(window);
    slices += window.slices;
  }
  if (nodes == 0) return Refusal::no_window;
  const size_t allocations = slices + kSpareAllocations;
  if (!added.memory_.reserve(Scratch::bytes_of<CUgraphNode>(nodes) +
                             Scratch::bytes_of<uint32_t>(nodes) +
                             Scratch::bytes_of<AddedNodes::Slice>(slices) +
                             Scratch::bytes_of<CUdeviceptr>(allocations))) {
    return Refusal::no_memory;
  }
  added.allocations_ = added.memory_.take<CUdeviceptr>(allocations);
  added.nodes_ = added.memory_.take<CUgraphNode>(nodes);
  added.beside_ = added.memory_.take<uint32_t>(nodes);
  added.own_nodes_ = graph.nodes();
  added.slices_ = added.memory_.take<AddedNodes::Slice>(slices);
  uint32_t node = 0;
  size_t slice = 0;
  for (const GraphWindow& window : plan_.windows()) {
    if (place(window.kernel, first, kernels.size()) == kernels.size()) continue;
    for (uint32_t i = 0; i < window.slices; ++i) {
      const GraphSlice& planned = plan_.slices(window)[i];
      const size_t consumer = place(planned.consumer, first, kernels.size());
      added.slices_[slice++] = {consumer < kernels.size() ? kernels[consumer].node : nullptr,
                                &planned, node + i / kMostRanges};
    }
    node += nodes_of(window);
  }
  return Refusal::none;
}

// Where the slice's tensor begins; 0: unknown, or not what this graph reads: the program may give
// that up while the graph runs.
CUdeviceptr Editor::operand(const AddedNodes::Slice& slice, CUresult& error) const {
  const GraphSlice& planned = *slice.plan;
  if (slice.consumer == nullptr) return 0;
  if (planned.argument == kByName) {
    const Tensors::Place place = names_.registered(planned.tensor);
    const bool fits = planned.offset_bytes <= place.bytes &&
                      planned.length_bytes <= place.bytes - planned.offset_bytes;
    return fits ? reinterpret_cast<CUdeviceptr>(place.begin) : 0;
  }
  return read_pointer(driver_, slice.consumer, planned.argument, error);
}

// Whether all of it is memory of the context's device, in one allocation or in several that follow
// each other, which are noted.
bool Editor::is_live(AddedNodes& added, CUdeviceptr begin, uint64_t bytes, CUresult& error) const {
  const CUdeviceptr end = begin + bytes;
  for (CUdeviceptr at = begin; at < end;) {
    CUdeviceptr base = 0;
    size_t size = 0;
    CUmemorytype type{};
    int device = -1;
    CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void* values[] = {&type, &device};
    // It succeeds, with zeros, for what is no memory of CUDA's.
    error = driver_.pointer_attributes(std::size(names), names, values, at);
    if (error != CUDA_SUCCESS || type != CU_MEMORYTYPE_DEVICE || device != added.kernel_->device) {
      return false;
    }
    // The piece that is mapped; the attributes know only the reservation around it.
    error = driver_.address_range(&base, &size, at);
    if (error == CUDA_ERROR_NOT_FOUND || error == CUDA_ERROR_INVALID_VALUE) {
      error = CUDA_SUCCESS;
      return false;
    }
    if (error != CUDA_SUCCESS || base > at || at - base >= size) return false;
    const auto known = added.allocations();
    const auto place = std::lower_bound(known.begin(), known.end(), base);
    if (place == known.end() || *place != base) {
      if (added.found_ == added.allocations_.size()) return false;
      const auto index = static_cast<size_t>(place - known.begin());
      std::move_backward(added.allocations_.begin() + index,
                         added.allocations_.begin() + added.found_,
                         added.allocations_.begin() + added.found_ + 1);
      added.allocations_[index] = base;
      ++added.found_;
    }
    at = base + size;
  }
  return true;
}

// The slices of one node, which stand together from the first of `slices` on.
CUresult Editor::fill(AddedNodes& added, uint32_t node, std::span<const AddedNodes::Slice> slices,
                      PrefetchArgs& args) const {
  args = {};
  args.applied = reinterpret_cast<const PrefetchSwitch*>(added.kernel_->applied);
  args.chunk_bytes = plan_.header().chunk_bytes;
  for (const AddedNodes::Slice& slice : slices) {
    if (slice.added != node) break;
    CUresult error = CUDA_SUCCESS;
    const CUdeviceptr pointer = operand(slice, error);
    const uint64_t length = slice.plan->length_bytes, offset = slice.plan->offset_bytes;
    // A name's own bytes are known; those of a parameter must belong to where it points.
    const uint64_t known = slice.plan->argument == kByName ? offset : 0;
    const bool live = error == CUDA_SUCCESS && pointer != 0 &&
                      offset + length <= UINT64_MAX - pointer &&
                      is_live(added, pointer + known, offset + length - known, error);
    if (error != CUDA_SUCCESS) return error;
    if (!live) {
      added.missing_bytes_ += length;
      continue;
    }
    const uint64_t begin = (pointer + offset + kAlign - 1) / kAlign * kAlign;
    const uint64_t end = (pointer + offset + length) / kAlign * kAlign;
    if (end <= begin) continue;
    args.range[args.ranges++] = {begin, end - begin};
    added.fetched_bytes_ += end - begin;
  }
  return CUDA_SUCCESS;
}

template <typename Params>
void Editor::set_kernel(const PrefetchKernel& kernel, void** arguments, Params& params) const {
  params.func = kernel.function;
  params.gridDimX = std::min(plan_.header().blocks, kernel.most_blocks);
  params.gridDimY = params.gridDimZ = 1;
  params.blockDimX = kPrefetchThreads;
  params.blockDimY = params.blockDimZ = 1;
  params.kernelParams = arguments;
}

CUresult Editor::add(TemplateGraph& graph, const TemplateGraph::Kernel& beside, PrefetchArgs& args,
                     AddedNodes& added, uint32_t node) const {
  added.beside_[node] = beside.index;
  void* arguments[] = {&args};
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_KERNEL;
  set_kernel(*added.kernel_, arguments, params.kernel);
  CUresult result = CUDA_SUCCESS;
  if (added.kernel_->has_start_edges) {
    CUgraphEdgeData edge{};
    edge.from_port = CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER;
    edge.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
    result = driver_.add_node(&added.nodes_[node], added.graph_, &beside.node, &edge, 1, &params);
  } else {
    Scratch memory;
    if (!memory.reserve(Scratch::bytes_of<CUgraphNode>(graph.nodes()))) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
    const std::span<const CUgraphNode> after =
        graph.predecessors(beside, memory.take<CUgraphNode>(graph.nodes()));
    result = driver_.add_node(&added.nodes_[node], added.graph_, after.data(), nullptr,
                              after.size(), &params);
  }
  if (result != CUDA_SUCCESS) {
    added.nodes_[node] = nullptr;
    return result;
  }
  CUkernelNodeAttrValue attribute{};
  attribute.priority = added.kernel_->priority;
  return driver_.set_kernel_attribute(added.nodes_[node], CU_LAUNCH_ATTRIBUTE_PRIORITY, &attribute);
}

Refusal Editor::edit(CUgraph graph, const PrefetchKernel& kernel, AddedNodes& added,
                     CUresult& error) {
  error = CUDA_SUCCESS;
  added.forget();
  added.left_ = false;
  if (kernel.function == nullptr) return Refusal::no_module;
  TemplateGraph read(driver_);
  Refusal refusal = read.read(graph);
  error = read.error();
  if (refusal != Refusal::none) return refusal;
  error = CUDA_SUCCESS;  // a CUkernel is no CUfunction
  const Match found = match(read.kernels());
  if (found.refusal != Refusal::none) return found.refusal;
  refusal = list_slices(read, found.first, added);
  if (refusal != Refusal::none) return refusal;
  added.graph_ = graph;
  added.kernel_ = &kernel;
  added.fetched_bytes_ = added.missing_bytes_ = 0;
  uint32_t node = 0;
  size_t slice = 0;
  for (const GraphWindow& window : plan_.windows()) {
    const size_t at = place(window.kernel, found.first, read.kernels().size());
    if (at == read.kernels().size()) continue;
    for (uint32_t i = 0; i < nodes_of(window) && error == CUDA_SUCCESS; ++i, ++node) {
      PrefetchArgs args;
      error = fill(added, node, added.slices_.subspan(slice + size_t{i} * kMostRanges), args);
      if (error == CUDA_SUCCESS) error = add(read, read.kernels()[at], args, added, node);
    }
    slice += window.slices;
    if (error != CUDA_SUCCESS) break;
  }
  if (error == CUDA_SUCCESS) return Refusal::none;
  (void)take_out(added);
  return Refusal::failed;
}

Refusal Editor::edit(CUgraph graph, const PrefetchKernel& kernel, const AddedShape& shape,
                     AddedNodes& added, CUresult& error) {
  const size_t nodes = shape.beside.size();
  for (bool again : {true, false}) {
    error = CUDA_SUCCESS;
    added.forget();
    added.left_ = false;
    TemplateGraph read(driver_);
    const Refusal refusal = read.read_shape(graph);
    error = read.error();
    if (refusal == Refusal::failed && again) continue;
    if (refusal != Refusal::none) return refusal;
    if (read.nodes() != shape.own_nodes) return Refusal::another_step;
    if (!added.memory_.reserve(Scratch::bytes_of<CUgraphNode>(nodes) +
                               Scratch::bytes_of<uint32_t>(nodes))) {
      return Refusal::no_memory;
    }
    added.nodes_ = added.memory_.take<CUgraphNode>(nodes);
    added.beside_ = added.memory_.take<uint32_t>(nodes);
    added.own_nodes_ = shape.own_nodes;
    added.graph_ = graph;
    added.kernel_ = &kernel;
    added.fetched_bytes_ = added.missing_bytes_ = 0;
    PrefetchArgs args{};
    args.applied = reinterpret_cast<const PrefetchSwitch*>(kernel.applied);
    args.chunk_bytes = plan_.header().chunk_bytes;
    bool fits = true;
    for (uint32_t i = 0; i < nodes && error == CUDA_SUCCESS && fits; ++i) {
      const uint32_t beside = added.beside_[i] = shape.beside[i];
      if (beside == AddedShape::kTakenOut) continue;
      CUgraphNodeType type{};
      error = driver_.node_type(read.node(beside), &type);
      fits = type == CU_GRAPH_NODE_TYPE_KERNEL;
      if (error == CUDA_SUCCESS && fits) {
        error = add(read, {read.node(beside), beside, 0}, args, added, i);
      }
    }
    if (error == CUDA_SUCCESS && !fits) {  // the driver refuses such an update for what it is
      error = take_out(added);
      return added.left() ? Refusal::failed : Refusal::another_step;
    }
    if (error == CUDA_SUCCESS) return Refusal::none;
    (void)take_out(added);
    if (added.left()) break;
  }
  return Refusal::failed;
}

// One that cannot be taken out is a leaf that does nothing as long as the switch is off.
CUresult Editor::take_out(AddedNodes& added) {
  CUresult first_error = CUDA_SUCCESS;
  added.left_ = false;
  for (const CUgraphNode node : added.nodes_) {
    if (node == nullptr) continue;
    const CUresult error = driver_.destroy_node(node);
    if (error == CUDA_SUCCESS) continue;
    if (first_error == CUDA_SUCCESS) first_error = error;
    added.left_ = driver_.destroy_node(node) != CUDA_SUCCESS || added.left_;
  }
  added.forget();
  return first_error;
}

CUresult Editor::refresh(AddedNodes& added) {
  added.fetched_bytes_ = added.missing_bytes_ = 0;
  added.found_ = 0;
  added.stale_ = false;
  size_t slice = 0;
  for (uint32_t node = 0; node < added.nodes_.size(); ++node) {
    const std::span<const AddedNodes::Slice> slices = added.slices_.subspan(slice);
    while (slice < added.slices_.size() && added.slices_[slice].added == node) ++slice;
    if (added.nodes_[node] == nullptr) continue;
    PrefetchArgs args;
    CUresult error = fill(added, node, slices, args);
    void* arguments[] = {&args};
    CUDA_KERNEL_NODE_PARAMS params{};
    set_kernel(*added.kernel_, arguments, params);
    if (error == CUDA_SUCCESS) error = driver_.set_kernel_params(added.nodes_[node], &params);
    if (error != CUDA_SUCCESS) return error;
  }
  return CUDA_SUCCESS;
}

}  // namespace preserve::apply
