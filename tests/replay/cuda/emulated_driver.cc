// SPDX-License-Identifier: Apache-2.0
#include "tests/replay/cuda/emulated_driver.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <set>

#include "tests/replay/cuda/emulated_cuda.h"
#include "tests/replay/cuda/emulated_graph.h"

namespace preserve::emulated {

void enqueue(CUstream stream, Work work);  // of the runtime

namespace {

std::deque<CUfunc_st> functions;

// What callers that live as long as their process, or whose calls were made to fail, do not give
// back.
struct Leftovers {
  std::deque<CUevent_st> events;
  std::set<CUdeviceptr> memory;
  std::set<CUgraphExec> executables;
  ~Leftovers() {
    for (const CUgraphExec executable : executables) cudaGraphExecDestroy(executable);
    for (const CUdeviceptr address : memory) cudaFree(reinterpret_cast<void*>(address));
  }
};
Leftovers& leftovers() {
  static Leftovers all;
  return all;
}

uint64_t last_id = 0;
std::set<CUgraph> graphs;

bool is_default(const CUgraphEdgeData& edge) {
  return edge.from_port == 0 && edge.to_port == 0 && edge.type == 0;
}

// Reads what the launch is given when it is made, as the driver does.
void keep(const CUDA_KERNEL_NODE_PARAMS& params, CUgraphNode_st& node) {
  std::vector<std::vector<char>> arguments;  // some may be the node's own
  for (size_t i = 0; i < params.func->parameter_bytes.size(); ++i) {
    const auto* from = static_cast<const char*>(params.kernelParams[i]);
    arguments.emplace_back(from, from + params.func->parameter_bytes[i]);
  }
  node.arguments = std::move(arguments);
  node.argument_pointers.clear();
  for (auto& argument : node.arguments) node.argument_pointers.push_back(argument.data());
  node.params = params;
  node.params.kernelParams = node.argument_pointers.data();
}

Work work_of(const CUgraphNode_st& node) {
  if (node.type != CU_GRAPH_NODE_TYPE_KERNEL || node.params.func == nullptr) {
    return node.work ? node.work : [] {};
  }
  return [function = node.params.func, arguments = node.arguments, blocks = node.params.gridDimX,
          threads = node.params.blockDimX]() mutable {
    std::vector<void*> pointers;
    pointers.reserve(arguments.size());
    for (auto& argument : arguments) pointers.push_back(argument.data());
    function->call(pointers.data(), blocks, threads);
  };
}

CUgraphExec_st make_executable(const CUgraph_st& graph, unsigned long long flags) {
  CUgraphExec_st made;
  made.flags = flags;
  made.of = graph.id;
  // In an order in which each node comes after those that it waits for.
  std::map<const CUgraphNode_st*, size_t> index;
  for (size_t i = 0; i < graph.nodes.size(); ++i) index[graph.nodes[i].get()] = i;
  for (const auto& node : graph.nodes) {
    CUgraphExec_st::Node copy{work_of(*node), {}, {}, node->type, node->priority, node->id};
    for (const CUgraphNode_st* before : node->after) copy.after.push_back(index.at(before));
    for (const auto& [from, data] : node->edges) {
      copy.edges.push_back({index.at(from), data.from_port});
    }
    made.nodes.push_back(std::move(copy));
  }
  return made;
}

}  // namespace

Allocation reserved;

CUfunction make_function(const std::string& name, std::vector<size_t> parameter_bytes,
                         std::function<void(void**, unsigned, unsigned)> call) {
  functions.push_back({name, std::move(parameter_bytes), std::move(call)});
  return &functions.back();
}

void drain() {
  const std::lock_guard<std::recursive_mutex> lock(driver_mutex());
  cudaDeviceSynchronize();
}

}  // namespace preserve::emulated

using namespace preserve::emulated;

extern "C" {

CUresult cuGraphCreate(CUgraph* graph, unsigned) {
  const std::lock_guard<std::recursive_mutex> lock(driver_mutex());
  const cudaError_t result = cudaGraphCreate(graph, 0);
  (*graph)->id = ++last_id;
  graphs.insert(*graph);
  return static_cast<CUresult>(result);
}
CUresult cuGraphDestroy(CUgraph graph) {
  const std::lock_guard<std::recursive_mutex> lock(driver_mutex());
  graphs.erase(graph);
  return static_cast<CUresult>(cudaGraphDestroy(graph));
}

CUresult cuGraphAddNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                        const CUgraphEdgeData* edges, size_t count, CUgraphNodeParams* params) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  auto made = std::make_unique<CUgraphNode_st>();
  made->type = params->type;
  made->graph = graph;
  made->id = ++last_id;
  made->kernel = params->type == CU_GRAPH_NODE_TYPE_KERNEL;
  std::set<CUgraphNode> seen;
  for (size_t i = 0; i < count; ++i) {
    const CUgraphEdgeData edge = edges == nullptr ? CUgraphEdgeData{} : edges[i];
    const bool kernels = after[i]->kernel && made->kernel;
    if (after[i]->graph != graph || !seen.insert(after[i]).second ||
        (!is_default(edge) && !kernels) || (edge.type == 0 && edge.from_port != 0) ||
        (edge.from_port == CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER && driver_version < 12030)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    made->edges.push_back({after[i], edge});
    if (edge.type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC) {
      // Begins with it: here, when what that one waits for is done.
      made->after.insert(made->after.end(), after[i]->after.begin(), after[i]->after.end());
    } else {
      made->after.push_back(after[i]);
    }
  }
  if (made->kernel) {
    const CUDA_KERNEL_NODE_PARAMS_v3& kernel = params->kernel;
    CUDA_KERNEL_NODE_PARAMS copy{};
    copy.func = kernel.func;
    copy.gridDimX = kernel.gridDimX;
    copy.gridDimY = copy.gridDimZ = 1;
    copy.blockDimX = kernel.blockDimX;
    copy.blockDimY = copy.blockDimZ = 1;
    copy.kernelParams = kernel.kernelParams;
    keep(copy, *made);
  }
  *node = made.get();
  graph->nodes.push_back(std::move(made));
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroyNode(CUgraphNode node) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  auto& nodes = node->graph->nodes;
  for (const auto& other : nodes) {
    for (const auto& [from, data] : other->edges) {
      if (from == node)
        return CUDA_ERROR_INVALID_VALUE;  // stricter than the driver: ours are leaves
    }
  }
  std::erase_if(nodes, [&](const auto& other) { return other.get() == node; });
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  for (size_t i = 0; nodes != nullptr && i < std::min(*count, graph->nodes.size()); ++i) {
    nodes[i] = graph->nodes[i].get();
  }
  *count = graph->nodes.size();
  return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                         size_t* count) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  size_t found = 0;
  for (const auto& node : graph->nodes) {
    for (const auto& [before, edge] : node->edges) {
      if (from != nullptr && found < *count) {
        if (data == nullptr && !is_default(edge)) return CUDA_ERROR_LOSSY_QUERY;
        from[found] = before;
        to[found] = node.get();
        if (data != nullptr) data[found] = edge;
      }
      ++found;
    }
  }
  *count = found;
  return CUDA_SUCCESS;
}

// Some types are none of the enumeration's.
CALL(CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType* type),
     std::memcpy(type, &node->type, sizeof(*type)), CUDA_SUCCESS)
CALL(CUresult cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* params),
     *params = node->params, CUDA_SUCCESS)
CALL(CUresult cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS* params),
     keep(*params, *node), CUDA_SUCCESS)
CUresult cuGraphKernelNodeGetAttribute(CUgraphNode node, CUkernelNodeAttrID attribute,
                                       CUkernelNodeAttrValue* value) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  if (attribute != CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  value->deviceUpdatableKernelNode.deviceUpdatable = node->device_updatable ? 1 : 0;
  return CUDA_SUCCESS;
}
CUresult cuGraphKernelNodeSetAttribute(CUgraphNode node, CUkernelNodeAttrID attribute,
                                       const CUkernelNodeAttrValue* value) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  if (attribute != CU_LAUNCH_ATTRIBUTE_PRIORITY) return CUDA_ERROR_INVALID_VALUE;
  return node->priority = value->priority, CUDA_SUCCESS;
}

CALL(CUresult cuFuncGetName(const char** name, CUfunction function), *name = function->name.c_str(),
     CUDA_SUCCESS)
// All kernels here are functions.
CALL(CUresult cuKernelGetName(const char**, CUkernel), CUDA_ERROR_INVALID_HANDLE)
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  if (index >= function->parameter_bytes.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = 0;
  for (size_t i = 0; i <= index; ++i) {
    *bytes = function->parameter_bytes[i];
    const size_t align = std::min<size_t>(*bytes, 8);
    *offset = (*offset + align - 1) / align * align + (i < index ? *bytes : 0);
  }
  return CUDA_SUCCESS;
}
CALL(CUresult cuKernelGetParamInfo(CUkernel, size_t, size_t*, size_t*), CUDA_ERROR_INVALID_HANDLE)

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr pointer) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  const bool in_reserved = pointer - reserved.base < reserved.bytes;
  const Allocation found = in_reserved ? reserved : allocation_around(pointer);
  for (unsigned i = 0; i < count; ++i) {
    const auto put = [&](auto value) { std::memcpy(data[i], &value, sizeof(value)); };
    if (attributes[i] == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) {
      put(found.base);
    } else if (attributes[i] == CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
      put(found.bytes);
    } else if (attributes[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
      put(found.bytes > 0 ? CU_MEMORYTYPE_DEVICE : CUmemorytype{});
    } else if (attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
      put(found.bytes > 0 ? memory_device : -2);
    } else {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}
// What is mapped, not what is reserved.
CUresult cuMemGetAddressRange(CUdeviceptr* base, size_t* bytes, CUdeviceptr pointer) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  const Allocation found = allocation_around(pointer);
  if (found.bytes == 0) return CUDA_ERROR_NOT_FOUND;
  return *base = found.base, *bytes = found.bytes, CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  if (too_old) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  return *module = static_cast<CUmodule>(const_cast<void*>(image)), CUDA_SUCCESS;
}
// The last of that name.
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  *function = nullptr;
  for (CUfunc_st& known : functions) {
    if (known.name == name) *function = &known;
  }
  return *function == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  void* memory = nullptr;
  const cudaError_t result = cudaMalloc(&memory, bytes);
  *address = reinterpret_cast<CUdeviceptr>(memory);
  if (result == cudaSuccess) leftovers().memory.insert(*address);
  return static_cast<CUresult>(result);
}
CALL(CUresult cuMemsetD32(CUdeviceptr address, unsigned value, size_t count), drain(),
     std::fill_n(reinterpret_cast<unsigned*>(address), count, value), CUDA_SUCCESS)
CALL(CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                   unsigned),
     enqueue(stream, [=] { *reinterpret_cast<cuuint32_t*>(address) = value; }), CUDA_SUCCESS)
CALL(CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status),
     *status = stream != nullptr && stream->capturing != nullptr ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                                                 : CU_STREAM_CAPTURE_STATUS_NONE,
     CUDA_SUCCESS)
CALL(CUresult cuEventCreate(CUevent* event, unsigned), *event = &leftovers().events.emplace_back(),
     CUDA_SUCCESS)
CALL(CUresult cuEventRecord(CUevent event, CUstream stream),
     static_cast<CUresult>(cudaEventRecord(event, stream)))
CALL(CUresult cuEventQuery(CUevent event),
     event->completed == event->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY)
CALL(CUresult cuEventElapsedTime(float* ms, CUevent begin, CUevent end),
     static_cast<CUresult>(cudaEventElapsedTime(ms, begin, end)))

CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph,
                                     unsigned long long flags) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  const cudaError_t result = cudaGraphInstantiate(executable, graph, flags);
  if (result == cudaSuccess) {
    **executable = make_executable(*graph, flags);
    leftovers().executables.insert(*executable);
  }
  return static_cast<CUresult>(result);
}
CALL(CUresult cuGraphExecDestroy(CUgraphExec executable), leftovers().executables.erase(executable),
     static_cast<CUresult>(cudaGraphExecDestroy(executable)))
// Named by the node of the template, which must still be there.
CUresult cuGraphNodeSetEnabled(CUgraphExec executable, CUgraphNode node, unsigned enabled) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  const auto of = std::find_if(graphs.begin(), graphs.end(),
                               [&](CUgraph graph) { return graph->id == executable->of; });
  if (of == graphs.end() || std::none_of((*of)->nodes.begin(), (*of)->nodes.end(),
                                         [&](const auto& known) { return known.get() == node; })) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (auto& own : executable->nodes) {
    if (own.of != node->id) continue;
    if (own.type != CU_GRAPH_NODE_TYPE_KERNEL) return CUDA_ERROR_INVALID_VALUE;
    return own.enabled = enabled != 0, CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  const std::lock_guard<std::recursive_mutex> lock(driver_mutex());
  return static_cast<CUresult>(cudaGraphLaunch(executable, stream));
}

CUresult cuGraphExecUpdate(CUgraphExec executable, CUgraph graph,
                           CUgraphExecUpdateResultInfo* info) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  drain();
  CUgraphExec_st fresh = make_executable(*graph, executable->flags);
  const auto leaves = [](const CUgraphExec_st& of) {
    std::set<size_t> sources;
    for (const auto& node : of.nodes) {
      for (const auto& edge : node.edges) sources.insert(edge.first);
    }
    return of.nodes.size() - sources.size();
  };
  bool same =
      fresh.nodes.size() == executable->nodes.size() && leaves(fresh) == leaves(*executable);
  for (size_t i = 0; same && i < fresh.nodes.size(); ++i) {
    const auto &now = fresh.nodes[i], &before = executable->nodes[i];
    same = now.edges == before.edges && now.type == before.type &&
           ((executable->flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) == 0 ||
            now.priority == before.priority);
  }
  *info = {};
  if (!same) {
    info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  }
  // Parameters alone: what its nodes are called, and which are disabled, stays.
  fresh.of = executable->of;
  for (size_t i = 0; i < fresh.nodes.size(); ++i) {
    fresh.nodes[i].of = executable->nodes[i].of;
    fresh.nodes[i].enabled = executable->nodes[i].enabled;
  }
  *executable = std::move(fresh);
  return CUDA_SUCCESS;
}
}
