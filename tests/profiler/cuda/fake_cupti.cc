// SPDX-License-Identifier: Apache-2.0
#include "tests/profiler/cuda/fake_cupti.h"

#include <cupti.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr uint32_t kLaunchKernel = CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel;
constexpr uint32_t kGraphLaunch = CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch;
constexpr uint32_t kProfilerStart = CUPTI_DRIVER_TRACE_CBID_cuProfilerStart;
constexpr uint32_t kProfilerStop = CUPTI_DRIVER_TRACE_CBID_cuProfilerStop;
constexpr uint32_t kRuntimeLaunch = CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000;

struct Node {
  uint64_t id;
  std::string name;
};

std::mutex mutex;
CUpti_CallbackFunc callback = nullptr;
void* callback_data = nullptr;
CUpti_BuffersCallbackRequestFunc requested = nullptr;
CUpti_BuffersCallbackCompleteFunc completed = nullptr;
CUpti_TimestampCallbackFunc timestamp = nullptr;
std::atomic<bool> kernels{false}, memory{false};
bool enabled_driver[2048] = {}, enabled_resource[64] = {}, enabled_runtime[2048] = {};
std::atomic<uint32_t> correlation{0};
std::atomic<uint64_t> requests{0};
uint8_t* buffer = nullptr;
size_t buffer_bytes = 0, used = 0;
std::vector<Node> captured, executable;
bool capturing = false;
uint64_t next_node = 1;
std::set<std::string> names;  // records point into it

int failure(const char* what) {
  const char* text = std::getenv("FAKE_CUPTI");
  const char* found = text == nullptr ? nullptr : std::strstr(text, what);
  return found == nullptr ? 0 : std::atoi(found + std::strlen(what));
}

const char* keep(const char* name) {
  return names.insert(name).first->c_str();
}

uint64_t now() {
  return timestamp != nullptr ? timestamp() : 1;
}

// `mutex` is held: CUPTI, too, calls back for buffers under locks of its own.
void hand_over() {
  if (buffer == nullptr) return;
  completed(nullptr, 0, buffer, buffer_bytes, used);
  buffer = nullptr;
}

template <typename Record>
void append(const Record& record) {
  if (requested == nullptr) return;
  if (buffer != nullptr && used + sizeof(record) > buffer_bytes) hand_over();
  if (buffer == nullptr) {
    size_t max_records = 0;
    requested(&buffer, &buffer_bytes, &max_records);
    ++requests;
    used = 0;
    if (buffer == nullptr) return;
  }
  std::memcpy(buffer + used, &record, sizeof(record));
  used += sizeof(record);
}

void append_kernel(const char* name, uint32_t id, uint64_t node) {
  if (!kernels) return;
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_ActivityKernel10 kernel{};
  kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  kernel.start = now();
  kernel.end = kernel.start + 1000;
  kernel.streamId = 7;
  kernel.contextId = 1;
  kernel.correlationId = id;
  kernel.graphNodeId = node;
  kernel.graphId = node == 0 ? 0 : 3;
  kernel.gridX = kernel.gridY = kernel.gridZ = 1;
  kernel.blockX = kernel.blockY = kernel.blockZ = 1;
  kernel.name = keep(name);
  append(kernel);
}

void call(uint32_t cbid, CUpti_ApiCallbackSite site, uint32_t id, const void* parameters,
          const char* symbol) {
  if (callback == nullptr || !enabled_driver[cbid]) return;
  CUpti_CallbackData data{};
  CUresult result = CUDA_SUCCESS;
  data.callbackSite = site;
  data.functionParams = parameters;
  data.functionReturnValue = &result;
  data.symbolName = symbol;
  data.correlationId = id;
  callback(callback_data, CUPTI_CB_DOMAIN_DRIVER_API, cbid, &data);
}

void resource(uint32_t cbid, uint64_t node, uint64_t original) {
  if (callback == nullptr || !enabled_resource[cbid]) return;
  CUpti_GraphData graph{};
  graph.node = reinterpret_cast<CUgraphNode>(node);
  graph.originalNode = reinterpret_cast<CUgraphNode>(original);
  CUpti_ResourceData data{};
  data.resourceDescriptor = &graph;
  callback(callback_data, CUPTI_CB_DOMAIN_RESOURCE, cbid, &data);
}

size_t size_of(CUpti_ActivityKind kind) {
  return kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL ? sizeof(CUpti_ActivityKernel10)
         : kind == CUPTI_ACTIVITY_KIND_MEMORY2         ? sizeof(CUpti_ActivityMemory4)
                                                       : 0;
}

}  // namespace

extern "C" {

void fake_launch(const char* name, uint64_t function, void** parameters) {
  const uint32_t id = ++correlation;
  cuLaunchKernel_params launch{};
  launch.f = reinterpret_cast<CUfunction>(function);
  launch.gridDimX = launch.gridDimY = launch.gridDimZ = 1;
  launch.kernelParams = parameters;
  call(kLaunchKernel, CUPTI_API_ENTER, id, &launch, name);
  uint64_t node = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (capturing) {
      node = next_node++;
      captured.push_back({node, name});
    }
  }
  if (node != 0) {
    resource(CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, node, 0);
  } else {
    append_kernel(name, id, 0);
  }
  call(kLaunchKernel, CUPTI_API_EXIT, id, &launch, name);
}

void fake_capture(int begin) {
  const std::lock_guard<std::mutex> lock(mutex);
  capturing = begin != 0;
  if (capturing) captured.clear();
}

void fake_instantiate() {
  executable.clear();
  for (const Node& node : captured) {
    executable.push_back({next_node++, node.name});
    resource(CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, executable.back().id, node.id);
  }
}

void fake_graph_launch() {
  const uint32_t id = ++correlation;
  const cuGraphLaunch_params launch{};
  call(kGraphLaunch, CUPTI_API_ENTER, id, &launch, nullptr);
  for (const Node& node : executable) append_kernel(node.name.c_str(), id, node.id);
  call(kGraphLaunch, CUPTI_API_EXIT, id, &launch, nullptr);
}

void fake_allocate(uint64_t address, uint64_t bytes) {
  if (!memory) return;
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_ActivityMemory4 record{};
  record.kind = CUPTI_ACTIVITY_KIND_MEMORY2;
  record.memoryOperationType = CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION;
  record.address = address;
  record.bytes = bytes;
  record.timestamp = now();
  append(record);
}

void fake_profiler(int start) {
  const uint32_t cbid = start != 0 ? kProfilerStart : kProfilerStop;
  call(cbid, CUPTI_API_ENTER, 0, nullptr, nullptr);
  call(cbid, CUPTI_API_EXIT, 0, nullptr, nullptr);
}

void fake_fatal(const char* message) {
  if (callback == nullptr) return;
  CUpti_StateData data{};
  data.notification.result = CUPTI_ERROR_UNKNOWN;
  data.notification.message = message;
  callback(callback_data, CUPTI_CB_DOMAIN_STATE, CUPTI_CBID_STATE_FATAL_ERROR, &data);
}

int fake_subscribed() {
  return callback != nullptr;
}
int fake_kernels_enabled() {
  return kernels;
}
uint64_t fake_buffers_requested() {
  return requests;
}

// ---------------------------------------------------------------- what the collector calls

CUptiResult cuptiGetVersion(uint32_t* version) {
  *version = 130001;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiSubscribe_v2(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc function,
                              void* data, CUpti_SubscriberParams* params) {
  if (const int error = failure("subscribe=")) {
    if (params->oldSubscriberName != nullptr)
      std::strncpy(params->oldSubscriberName, "nsys", params->oldSubscriberSize);
    return static_cast<CUptiResult>(error);
  }
  *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(&mutex);
  callback = function;
  callback_data = data;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc function,
                           void* data) {
  CUpti_SubscriberParams params{};
  return cuptiSubscribe_v2(subscriber, function, data, &params);
}
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle) {
  callback = nullptr;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiEnableCallback(uint32_t enable, CUpti_SubscriberHandle,
                                CUpti_CallbackDomain domain, CUpti_CallbackId cbid) {
  if (domain == CUPTI_CB_DOMAIN_DRIVER_API) enabled_driver[cbid] = enable != 0;
  if (domain == CUPTI_CB_DOMAIN_RUNTIME_API) enabled_runtime[cbid] = enable != 0;
  if (domain == CUPTI_CB_DOMAIN_RESOURCE) enabled_resource[cbid] = enable != 0;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiEnableDomain(uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetCallbackName(CUpti_CallbackDomain domain, uint32_t cbid, const char** name) {
  if (cbid > 800) return CUPTI_ERROR_INVALID_PARAMETER;
  *name = "other";
  if (domain == CUPTI_CB_DOMAIN_RUNTIME_API) {
    if (cbid == kRuntimeLaunch) *name = "cudaLaunchKernel_v7000";
    return CUPTI_SUCCESS;
  }
  if (cbid == kLaunchKernel) *name = "cuLaunchKernel";
  if (cbid == kGraphLaunch) *name = "cuGraphLaunch";
  if (cbid == kProfilerStart) *name = "cuProfilerStart";
  if (cbid == kProfilerStop) *name = "cuProfilerStop";
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                           CUpti_BuffersCallbackCompleteFunc complete) {
  requested = request;
  completed = complete;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc function) {
  timestamp = function;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (const int error = failure("enable=")) return static_cast<CUptiResult>(error);
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) kernels = true;
  if (kind == CUPTI_ACTIVITY_KIND_MEMORY2) memory = true;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) kernels = false;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNextRecord(uint8_t* bytes, size_t valid, CUpti_Activity** record) {
  uint8_t* next = bytes;
  if (*record != nullptr) next = reinterpret_cast<uint8_t*>(*record) + size_of((*record)->kind);
  if (next >= bytes + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) {
  *dropped = 0;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityFlushAll(uint32_t) {
  const std::lock_guard<std::mutex> lock(mutex);
  hand_over();
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityFlushPeriod(uint32_t) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, size_t*, void*) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetGraphNodeId(CUgraphNode node, uint64_t* id) {
  *id = reinterpret_cast<uint64_t>(node);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetGraphId(CUgraph, uint32_t* id) {
  *id = 3;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetResultString(CUptiResult, const char** text) {
  *text = "a fake error";
  return CUPTI_SUCCESS;
}
// The driver's part: every function takes one pointer and one 4-byte number.
CUresult cuFuncGetParamInfo(CUfunction, size_t index, size_t* offset, size_t* bytes) {
  if (index > 1) return CUDA_ERROR_INVALID_VALUE;
  *offset = index * 8;
  *bytes = index == 0 ? 8 : 4;
  return CUDA_SUCCESS;
}

}  // extern "C"
