// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/callbacks.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "hooks/cuda/callback_name.h"
#include "profiler/collector/cuda/thread_record.h"

namespace preserve::cuda {

// The parts of a launch call that are recorded, whichever function made it.
struct LaunchArguments {
  const void* function = nullptr;
  CUstream stream = nullptr;
  uint32_t grid[3] = {}, block[3] = {};
  void** parameters = nullptr;
  void** extra = nullptr;
  const char* name = nullptr;
};

struct DescribedLaunch {
  LaunchBody body;
  char parameters[kMaxParameterBytes];
};

namespace {

using hooks::is_function;

bool record(const DescribedLaunch& launch) {
  return record_on_thread(RecordType::launch, launch.body, {}, launch.parameters,
                          launch.body.parameter_bytes);
}

// What this thread launches, which may turn out to be captured. nullptr: no memory.
DescribedLaunch* described(collector::ThreadLog& log) {
  if (log.extension == nullptr) log.extension = collector::map_memory(sizeof(DescribedLaunch));
  return static_cast<DescribedLaunch*>(log.extension);
}

// The call of this thread that is in progress.
struct OpenCall {
  uint32_t outer_correlation;  // of the runtime call around it
  bool open;
  bool recorded;  // else: in described()
  bool busy;      // inside our own callback: CUDA calls of ours are not the program's
  bool instantiates;
};
__thread OpenCall open_call __attribute__((tls_model("initial-exec"))) = {};

bool describes_node(CallKind kind) {
  return kind == CallKind::node_add || kind == CallKind::node_set ||
         kind == CallKind::node_set_exec;
}

// The old and the new version of the call differ after the fields that are read.
const CUDA_KERNEL_NODE_PARAMS* node_parameters(CallKind kind, const void* call) {
  switch (kind) {
    case CallKind::node_add:
      return static_cast<const cuGraphAddKernelNode_v2_params*>(call)->nodeParams;
    case CallKind::node_set:
      return static_cast<const cuGraphKernelNodeSetParams_v2_params*>(call)->nodeParams;
    default:
      return static_cast<const cuGraphExecKernelNodeSetParams_v2_params*>(call)->nodeParams;
  }
}

uint32_t element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      return 8;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ:
      return 4;
    default:
      return 0;  // 4 and 6 bit types: the size of the tensor stays unknown
  }
}

}  // namespace

CallKind driver_call_kind(const char* text) {
  const std::string_view name(text);
  if (is_function(name, "cuLaunchKernel")) return CallKind::launch_kernel;
  if (is_function(name, "cuLaunchKernelEx")) return CallKind::launch_kernel_ex;
  if (is_function(name, "cuLaunchCooperativeKernel")) return CallKind::launch_cooperative;
  if (is_function(name, "cuGraphLaunch")) return CallKind::launch_graph;
  if (is_function(name, "cuGraphAddKernelNode")) return CallKind::node_add;
  if (is_function(name, "cuGraphKernelNodeSetParams")) return CallKind::node_set;
  if (is_function(name, "cuGraphExecKernelNodeSetParams")) return CallKind::node_set_exec;
  if (is_function(name, "cuCtxDestroy") || is_function(name, "cuDevicePrimaryCtxReset") ||
      is_function(name, "cuDevicePrimaryCtxRelease")) {
    return CallKind::context_end;
  }
  if (name.starts_with("cuGraphInstantiate")) return CallKind::instantiate;
  if (is_function(name, "cuMemMap")) return CallKind::map;
  if (is_function(name, "cuMemUnmap")) return CallKind::unmap;
  if (is_function(name, "cuTensorMapEncodeTiled")) return CallKind::tensor_map;
  if (is_function(name, "cuProfilerStart")) return CallKind::profiler_start;
  if (is_function(name, "cuProfilerStop")) return CallKind::profiler_stop;
  if (is_function(name, "cuStreamBeginCapture") ||
      is_function(name, "cuStreamBeginCaptureToGraph")) {
    return CallKind::capture_begin;
  }
  if (is_function(name, "cuStreamEndCapture")) return CallKind::capture_end;
  if (name.starts_with("cuMemcpy") || name.starts_with("cuMemset")) return CallKind::copy;
  return CallKind::none;
}

bool runtime_call_wanted(const char* text) {
  const std::string_view name(text);
  return name.starts_with("cudaLaunchKernel") || name.starts_with("__cudaLaunchKernel") ||
         name.starts_with("cudaLaunchCooperativeKernel") || is_function(name, "cudaGraphLaunch") ||
         name.starts_with("cudaMemcpy") || name.starts_with("cudaMemset");
}

bool Callbacks::enable(CUpti_SubscriberHandle subscriber) {
  uint32_t enabled = 0;
  // Names end where the library's list ends; gaps do not occur.
  for (uint32_t cbid = 1; cbid < kMaxCbids; ++cbid) {
    const char* name = nullptr;
    if (api_.get_callback_name(CUPTI_CB_DOMAIN_DRIVER_API, cbid, &name) != CUPTI_SUCCESS) break;
    kinds_[cbid] = name == nullptr ? CallKind::none : driver_call_kind(name);
    if (!counting_ &&
        (kinds_[cbid] == CallKind::capture_begin || kinds_[cbid] == CallKind::capture_end)) {
      kinds_[cbid] = CallKind::none;
    }
    if (kinds_[cbid] == CallKind::none) continue;
    enabled +=
        api_.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API, cbid) == CUPTI_SUCCESS;
  }
  for (uint32_t cbid = 1; cbid < kMaxCbids; ++cbid) {
    const char* name = nullptr;
    if (api_.get_callback_name(CUPTI_CB_DOMAIN_RUNTIME_API, cbid, &name) != CUPTI_SUCCESS) break;
    if (name == nullptr || !runtime_call_wanted(name)) continue;
    enabled +=
        api_.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RUNTIME_API, cbid) == CUPTI_SUCCESS;
  }
  for (const uint32_t cbid :
       {CUPTI_CBID_RESOURCE_CU_INIT_FINISHED, CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING,
        CUPTI_CBID_RESOURCE_MODULE_UNLOAD_STARTING, CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED,
        CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, CUPTI_CBID_RESOURCE_GRAPH_NODE_UPDATED,
        CUPTI_CBID_RESOURCE_GRAPH_NODE_SET_PARAMS}) {
    enabled += api_.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RESOURCE, cbid) == CUPTI_SUCCESS;
  }
  if (counting_) {
    (void)api_.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RESOURCE,
                               CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED);
  }
  enabled += api_.enable_domain(1, subscriber, CUPTI_CB_DOMAIN_STATE) == CUPTI_SUCCESS;
  return enabled > 0;
}

void Callbacks::on_runtime(const CUpti_CallbackData& data) {
  open_call.outer_correlation = data.callbackSite == CUPTI_API_ENTER ? data.correlationId : 0;
}

void Callbacks::on_driver(uint32_t cbid, const CUpti_CallbackData& data) {
  if (open_call.busy) return;
  const CallKind kind = this->kind(cbid);
  const bool enters = data.callbackSite == CUPTI_API_ENTER;
  switch (kind) {
    case CallKind::map:
    case CallKind::unmap:
      if (!enters) record_mapping(kind, data);
      return;
    case CallKind::tensor_map:
      if (!enters) record_tensor_map(data);
      return;
    case CallKind::instantiate:
      open_call.instantiates = enters;
      return;
    case CallKind::launch_kernel:
    case CallKind::launch_kernel_ex:
    case CallKind::launch_cooperative:
    case CallKind::launch_graph:
    case CallKind::copy:
    case CallKind::node_add:
    case CallKind::node_set:
    case CallKind::node_set_exec:
      break;
    default:
      return;
  }
  if (!enters) {
    open_call.open = false;
    return;
  }
  collector::ThreadLog* log = collector::this_thread(collector::kCuda);
  if (log == nullptr) return;
  DescribedLaunch* launch = described(*log);
  if (launch == nullptr) return;
  open_call.busy = true;
  describe(kind, data, *launch);
  open_call.busy = false;
  open_call.open = true;
  open_call.recorded =
      recording.load(std::memory_order_relaxed) && !describes_node(kind) && record(*launch);
}

void Callbacks::fill_kernel(CallKind kind, const CUpti_CallbackData& data,
                            LaunchArguments& out) const {
  const auto take = [&out](const auto& from) {
    out.grid[0] = from.gridDimX, out.grid[1] = from.gridDimY, out.grid[2] = from.gridDimZ;
    out.block[0] = from.blockDimX, out.block[1] = from.blockDimY, out.block[2] = from.blockDimZ;
  };
  if (kind == CallKind::launch_kernel || kind == CallKind::launch_cooperative) {
    using Plain = cuLaunchKernel_params;
    using Cooperative = cuLaunchCooperativeKernel_params;
    // The cooperative launch has the same arguments without `extra`.
    static_assert(offsetof(Plain, f) == offsetof(Cooperative, f) &&
                  offsetof(Plain, gridDimX) == offsetof(Cooperative, gridDimX) &&
                  offsetof(Plain, gridDimY) == offsetof(Cooperative, gridDimY) &&
                  offsetof(Plain, gridDimZ) == offsetof(Cooperative, gridDimZ) &&
                  offsetof(Plain, blockDimX) == offsetof(Cooperative, blockDimX) &&
                  offsetof(Plain, blockDimY) == offsetof(Cooperative, blockDimY) &&
                  offsetof(Plain, blockDimZ) == offsetof(Cooperative, blockDimZ) &&
                  offsetof(Plain, hStream) == offsetof(Cooperative, hStream) &&
                  offsetof(Plain, kernelParams) == offsetof(Cooperative, kernelParams));
    const auto& call = *static_cast<const cuLaunchCooperativeKernel_params*>(data.functionParams);
    take(call);
    out.function = call.f;
    out.stream = call.hStream;
    out.parameters = call.kernelParams;
    if (kind == CallKind::launch_kernel) {
      out.extra = static_cast<const cuLaunchKernel_params*>(data.functionParams)->extra;
    }
  } else if (kind == CallKind::launch_kernel_ex) {
    const auto& call = *static_cast<const cuLaunchKernelEx_params*>(data.functionParams);
    if (call.config == nullptr) return;
    take(*call.config);
    out.function = call.f;
    out.stream = call.config->hStream;
    out.parameters = call.kernelParams;
    out.extra = call.extra;
  } else if (describes_node(kind)) {
    const CUDA_KERNEL_NODE_PARAMS* node = node_parameters(kind, data.functionParams);
    if (node == nullptr) return;
    take(*node);
    out.function = node->func;
    out.parameters = node->kernelParams;
    out.extra = node->extra;
    return;
  }
  out.name = data.symbolName;  // only valid for launches
}

// The parameters as the kernel's buffer holds them; returns how many bytes were taken.
uint32_t Callbacks::copy_parameters(const KernelFunction& function, void** parameters, void** extra,
                                    char* out, bool& cut) const {
  if (parameters == nullptr && extra != nullptr) {
    const void* buffer = nullptr;
    size_t bytes = 0;
    for (int i = 0; i < 8 && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
      if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[i + 1];
      if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t*>(extra[i + 1]);
    }
    if (buffer == nullptr) return 0;
    cut = bytes > kMaxParameterBytes;
    const auto taken = static_cast<uint32_t>(std::min<size_t>(bytes, kMaxParameterBytes));
    std::memcpy(out, buffer, taken);
    return taken;
  }
  if (parameters == nullptr || function.parameters == kUnknownLayout) return 0;
  cut = function.bytes > kMaxParameterBytes;
  const uint32_t taken = std::min(function.bytes, kMaxParameterBytes);
  std::memset(out, 0, taken);
  for (uint32_t i = 0; i < function.parameters; ++i) {
    const ParameterLayout& at = function.layout[i];
    if (at.offset >= taken || parameters[i] == nullptr) continue;
    std::memcpy(out + at.offset, parameters[i], std::min(at.bytes, taken - at.offset));
  }
  return taken;
}

void Callbacks::describe(CallKind kind, const CUpti_CallbackData& data, DescribedLaunch& out) {
  LaunchBody& body = out.body = {};
  body.correlation = data.correlationId;
  body.outer_correlation = open_call.outer_correlation;
  body.context = data.contextUid;
  LaunchArguments arguments;
  if (kind == CallKind::launch_graph) {
    const auto& call = *static_cast<const cuGraphLaunch_params*>(data.functionParams);
    body.kind = LaunchKind::graph;
    body.stream = reinterpret_cast<uintptr_t>(call.hStream);
    body.function = reinterpret_cast<uintptr_t>(call.hGraph);
  } else if (kind == CallKind::copy) {
    body.kind = LaunchKind::copy;
  } else {
    fill_kernel(kind, data, arguments);
    body.kind = describes_node(kind) ? LaunchKind::node : LaunchKind::kernel;
    body.stream = reinterpret_cast<uintptr_t>(arguments.stream);
    std::memcpy(body.grid, arguments.grid, sizeof(body.grid));
    std::memcpy(body.block, arguments.block, sizeof(body.block));
    const KernelFunction* function = parameters_ || counting_
                                         ? functions_.find(api_, arguments.function, arguments.name)
                                         : nullptr;
    if (function != nullptr) body.function = function->id;
    if (function != nullptr && parameters_) {
      bool cut = false;
      body.parameter_bytes =
          copy_parameters(*function, arguments.parameters, arguments.extra, out.parameters, cut);
      if (cut) body.flags = kParametersCut;
    }
  }
}

void Callbacks::record_mapping(CallKind kind, const CUpti_CallbackData& data) {
  const auto* result = static_cast<const CUresult*>(data.functionReturnValue);
  if (result == nullptr || *result != CUDA_SUCCESS) return;
  MappingBody body{};
  if (kind == CallKind::map) {
    const auto& call = *static_cast<const cuMemMap_params*>(data.functionParams);
    body.address = call.ptr;
    body.bytes = static_cast<int64_t>(call.size);
  } else {
    const auto& call = *static_cast<const cuMemUnmap_params*>(data.functionParams);
    body.address = call.ptr;
    body.bytes = static_cast<int64_t>(call.size);
    body.unmapped = 1;
  }
  record_on_thread(RecordType::mapping, body);
}

void Callbacks::record_tensor_map(const CUpti_CallbackData& data) {
  const auto* result = static_cast<const CUresult*>(data.functionReturnValue);
  if (!parameters_ || result == nullptr || *result != CUDA_SUCCESS) return;
  const auto& call = *static_cast<const cuTensorMapEncodeTiled_params*>(data.functionParams);
  if (call.tensorMap == nullptr || call.globalDim == nullptr ||
      call.tensorRank > kMaxTensorMapRank) {
    return;
  }
  TensorMapBody body{};
  static_assert(sizeof(body.descriptor) == sizeof(CUtensorMap));
  std::memcpy(body.descriptor, call.tensorMap, sizeof(body.descriptor));
  body.address = reinterpret_cast<uintptr_t>(call.globalAddress);
  body.rank = call.tensorRank;
  body.element_bytes = element_bytes(call.tensorDataType);
  for (uint32_t i = 0; i < call.tensorRank; ++i) body.dims[i] = call.globalDim[i];
  for (uint32_t i = 0; call.globalStrides != nullptr && i + 1 < call.tensorRank; ++i) {
    body.strides[i] = call.globalStrides[i];
  }
  record_on_thread(RecordType::tensor_map, body);
}

void Callbacks::record_node(NodeEvent event, const CUpti_GraphData& graph) {
  if (api_.graph_node_id == nullptr) return;
  // The nodes of an executable graph are created too, as well as cloned, and only cloning says
  // of which node (NVIDIA's sample cuda_graphs_trace passes over them as well).
  if (event == NodeEvent::created && open_call.instantiates) return;
  NodeBody body{};
  body.event = event;
  body.type = static_cast<uint32_t>(graph.nodeType);
  if (api_.graph_node_id(graph.node, &body.node) != CUPTI_SUCCESS) return;
  if (event == NodeEvent::cloned &&
      api_.graph_node_id(graph.originalNode, &body.original) != CUPTI_SUCCESS) {
    return;
  }
  // Of an update nothing but the node is documented.
  if (event != NodeEvent::updated && api_.graph_id != nullptr && graph.graph != nullptr) {
    api_.graph_id(graph.graph, &body.graph);
  }
  if (open_call.open && event != NodeEvent::cloned) {
    // While nothing is recorded a launch counts only now that it turns out to be captured.
    collector::ThreadLog* log = collector::this_thread(collector::kCuda);
    if (!open_call.recorded && log != nullptr) {
      open_call.recorded = record(*described(*log));
    }
    body.in_launch = open_call.recorded;
  }
  record_on_thread(RecordType::node, body);
}

void Callbacks::on_resource(uint32_t cbid, const CUpti_ResourceData& data) {
  if (cbid == CUPTI_CBID_RESOURCE_MODULE_UNLOAD_STARTING) {
    functions_.forget();
    return;
  }
  if (data.resourceDescriptor == nullptr) return;
  const auto& graph = *static_cast<const CUpti_GraphData*>(data.resourceDescriptor);
  switch (cbid) {
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED:
      return record_node(NodeEvent::created, graph);
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED:
      return record_node(NodeEvent::cloned, graph);
    case CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED: {
      const ExecutableBody body{reinterpret_cast<uintptr_t>(graph.graphExec)};
      record_on_thread(RecordType::executable, body);
      return;
    }
    case CUPTI_CBID_RESOURCE_GRAPH_NODE_UPDATED:
    case CUPTI_CBID_RESOURCE_GRAPH_NODE_SET_PARAMS:
      return record_node(NodeEvent::updated, graph);
    default:
      return;
  }
}

}  // namespace preserve::cuda
