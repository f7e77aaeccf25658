// SPDX-License-Identifier: Apache-2.0
#include "tests/profiler/collector/cuda/fake_cupti.h"
#include "tests/profiler/collector/cuda/fake_counters.h"
#include "tests/support/stub.h"

#include <cupti.h>
#include <time.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace fake {

std::mutex mutex;
bool capturing = false;

int failure(const char* what) {
  const char* text = std::getenv("FAKE_CUPTI");
  const char* found = text == nullptr ? nullptr : std::strstr(text, what);
  return found == nullptr ? 0 : std::atoi(found + std::strlen(what));
}

}  // namespace fake

uint32_t fake_device = 0;
uint64_t fake_kernel_ns = 1000;

namespace {

using namespace fake;
constexpr uint32_t kLaunchKernel = CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel;
constexpr uint32_t kGraphLaunch = CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch;
constexpr uint32_t kBeginCapture = CUPTI_DRIVER_TRACE_CBID_cuStreamBeginCapture_v2;
constexpr uint32_t kEndCapture = CUPTI_DRIVER_TRACE_CBID_cuStreamEndCapture;
constexpr uint32_t kInstantiate = CUPTI_DRIVER_TRACE_CBID_cuGraphInstantiateWithFlags;
constexpr uint32_t kDestroy = CUPTI_DRIVER_TRACE_CBID_cuCtxDestroy_v2;
constexpr uint32_t kProfilerStart = CUPTI_DRIVER_TRACE_CBID_cuProfilerStart;
constexpr uint32_t kProfilerStop = CUPTI_DRIVER_TRACE_CBID_cuProfilerStop;
constexpr uint64_t kExecutable = 0xe0;
constexpr uint32_t kRuntimeLaunch = CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000;

struct Node {
  uint64_t id;
  std::string name;
};

CUpti_CallbackFunc callback = nullptr;
void* callback_data = nullptr;
CUpti_BuffersCallbackRequestFunc requested = nullptr;
CUpti_BuffersCallbackCompleteFunc completed = nullptr;
CUpti_TimestampCallbackFunc timestamp = nullptr;
std::atomic<bool> kernels{false}, memory{false}, enabled_kinds[256] = {};
bool traced_as_whole = false;  // the executable graph; as CUPTI, it cannot start with that later
std::atomic<bool> driver_ready{false}, over{false};
std::atomic<int> hardware_trace{0};
std::atomic<bool (*)()> flush_step{nullptr};
std::atomic<size_t> second_bytes{4};
struct End {
  ~End() { over = true; }
} end_of_library;
bool enabled_driver[2048] = {}, enabled_resource[64] = {}, enabled_runtime[2048] = {};
std::atomic<uint32_t> correlation{0};
std::atomic<uint64_t> flushes{0};
uint8_t* buffer = nullptr;
size_t buffer_bytes = 0, used = 0;
std::vector<Node> captured, executable;
uint64_t next_node = 1;
std::set<std::string> names;  // records point into it

char context_handle[] = "context";

const char* keep(const char* name) {
  return names.insert(name).first->c_str();
}

uint64_t now() {
  if (timestamp != nullptr) return timestamp();
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  constexpr uint64_t kOffset = 1'000'000'000'000;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec) +
         kOffset;
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
    used = 0;
    if (buffer == nullptr) return;
  }
  std::memcpy(buffer + used, &record, sizeof(record));
  used += sizeof(record);
}

void append_kernel(const char* name, uint32_t id, uint64_t node) {
  const std::lock_guard<std::mutex> lock(mutex);
  fake::count_kernel();
  if (!kernels) return;
  CUpti_ActivityKernel10 kernel{};
  kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  kernel.start = now();
  kernel.end = kernel.start + fake_kernel_ns;
  kernel.deviceId = fake_device;
  kernel.streamId = 7;
  kernel.contextId = 1 + fake_device;
  kernel.correlationId = id;
  kernel.graphNodeId = node;
  kernel.graphId = node == 0 ? 0 : 3;
  kernel.gridX = kernel.gridY = kernel.gridZ = 1;
  kernel.blockX = kernel.blockY = kernel.blockZ = 1;
  kernel.name = keep(name);
  append(kernel);
}

void append_graph(uint32_t id) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_ActivityGraphTrace2 graph{};
  graph.kind = CUPTI_ACTIVITY_KIND_GRAPH_TRACE;
  graph.start = now();
  graph.end = graph.start + 1000;
  graph.correlationId = id;
  graph.graphId = 3;
  graph.contextId = 1;
  graph.streamId = 7;
  append(graph);
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
  data.context = reinterpret_cast<CUcontext>(context_handle);
  data.contextUid = 1 + fake_device;
  callback(callback_data, CUPTI_CB_DOMAIN_DRIVER_API, cbid, &data);
}

// CUPTI's buffers must not be flushed inside callbacks of resources.
thread_local bool in_resource_callback = false;
void call_back(uint32_t cbid, const CUpti_ResourceData& data) {
  if (callback == nullptr || !enabled_resource[cbid]) return;
  in_resource_callback = true;
  callback(callback_data, CUPTI_CB_DOMAIN_RESOURCE, cbid, &data);
  in_resource_callback = false;
}

void resource(uint32_t cbid, uint64_t node, uint64_t original, uint64_t executable_graph = 0) {
  CUpti_GraphData graph{};
  graph.node = reinterpret_cast<CUgraphNode>(node);
  graph.originalNode = reinterpret_cast<CUgraphNode>(original);
  graph.graphExec = reinterpret_cast<CUgraphExec>(executable_graph);
  CUpti_ResourceData data{};
  data.resourceDescriptor = &graph;
  call_back(cbid, data);
}

void notify(uint32_t cbid, CUptiResult result, const char* message) {
  if (callback == nullptr) return;
  CUpti_StateData data{};
  data.notification.result = result;
  data.notification.message = message;
  callback(callback_data, CUPTI_CB_DOMAIN_STATE, cbid, &data);
}

size_t size_of(CUpti_ActivityKind kind) {
  return kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL ? sizeof(CUpti_ActivityKernel10)
         : kind == CUPTI_ACTIVITY_KIND_MEMORY2         ? sizeof(CUpti_ActivityMemory4)
         : kind == CUPTI_ACTIVITY_KIND_GRAPH_TRACE     ? sizeof(CUpti_ActivityGraphTrace2)
         : kind == CUPTI_ACTIVITY_KIND_DEVICE          ? sizeof(CUpti_ActivityDevice5)
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
  const cuStreamBeginCapture_v2_params parameters{};
  const uint32_t cbid = begin != 0 ? kBeginCapture : kEndCapture;
  call(cbid, CUPTI_API_ENTER, 0, &parameters, nullptr);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    capturing = begin != 0;
    if (capturing) captured.clear();
  }
  call(cbid, CUPTI_API_EXIT, 0, &parameters, nullptr);
}

void fake_instantiate() {
  executable.clear();
  traced_as_whole = enabled_kinds[CUPTI_ACTIVITY_KIND_GRAPH_TRACE];
  call(kInstantiate, CUPTI_API_ENTER, 0, nullptr, nullptr);
  for (const Node& node : captured) {
    executable.push_back({next_node++, node.name});
    resource(CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, executable.back().id, 0);
    resource(CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, executable.back().id, node.id);
    // Which of the two comes last is not documented.
    resource(CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, executable.back().id, 0);
  }
  resource(CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED, 0, 0, kExecutable);
  call(kInstantiate, CUPTI_API_EXIT, 0, nullptr, nullptr);
}

void fake_graph_launch() {
  const uint32_t id = ++correlation;
  cuGraphLaunch_params launch{};
  launch.hGraph = reinterpret_cast<CUgraphExec>(kExecutable);
  call(kGraphLaunch, CUPTI_API_ENTER, id, &launch, nullptr);
  if (!enabled_kinds[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]) {
    for (const Node& node : executable) append_kernel(node.name.c_str(), id, node.id);
  } else if (traced_as_whole) {
    append_graph(id);
  }
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

void fake_device_appears(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_ActivityDevice5 device{};
  device.kind = CUPTI_ACTIVITY_KIND_DEVICE;
  device.name = keep(name);
  append(device);
}

void fake_incomplete_record() {
  const std::lock_guard<std::mutex> lock(mutex);
  append(CUpti_ActivityKernel10{});
}

void fake_profiler(int start) {
  const uint32_t cbid = start != 0 ? kProfilerStart : kProfilerStop;
  call(cbid, CUPTI_API_ENTER, 0, nullptr, nullptr);
  call(cbid, CUPTI_API_EXIT, 0, nullptr, nullptr);
}

void fake_fatal(const char* message) {
  notify(CUPTI_CBID_STATE_FATAL_ERROR, CUPTI_ERROR_UNKNOWN, message);
}
void fake_warning(const char* message) {
  notify(CUPTI_CBID_STATE_WARNING, CUPTI_ERROR_OUT_OF_MEMORY, message);
}

void fake_driver_ready() {
  driver_ready = true;
  call_back(CUPTI_CBID_RESOURCE_CU_INIT_FINISHED, {});
}
void fake_hold_flushes(bool (*step)()) {
  flush_step = step;
}

void fake_destroy_context() {
  call(kDestroy, CUPTI_API_ENTER, 0, nullptr, nullptr);
  CUpti_ResourceData data{};
  data.context = reinterpret_cast<CUcontext>(context_handle);
  call_back(CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING, data);
  call(kDestroy, CUPTI_API_EXIT, 0, nullptr, nullptr);
}

STUB(int fake_kernels_enabled(), kernels)
STUB(int fake_enabled(int kind), enabled_kinds[kind])
STUB(int fake_hardware_trace(), hardware_trace)
STUB(int fake_has_timestamp_callback(), timestamp != nullptr)
STUB(uint64_t fake_flushes(), flushes)

// ---------------------------------------------------------------- what the collector calls

CUptiResult cuptiGetVersion(uint32_t* version) {
  const int given = failure("version=");
  *version = given == 0 ? 130001 : static_cast<uint32_t>(given);
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
  timestamp = nullptr;
  kernels = memory = false;
  for (auto& enabled : enabled_kinds) enabled = false;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc function,
                           void* data) {
  CUpti_SubscriberParams params{};
  return cuptiSubscribe_v2(subscriber, function, data, &params);
}
STUB(CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle), callback = nullptr, CUPTI_SUCCESS)
CUptiResult cuptiEnableCallback(uint32_t enable, CUpti_SubscriberHandle,
                                CUpti_CallbackDomain domain, CUpti_CallbackId cbid) {
  if (domain == CUPTI_CB_DOMAIN_DRIVER_API) enabled_driver[cbid] = enable != 0;
  if (domain == CUPTI_CB_DOMAIN_RUNTIME_API) enabled_runtime[cbid] = enable != 0;
  if (domain == CUPTI_CB_DOMAIN_RESOURCE) enabled_resource[cbid] = enable != 0;
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiEnableDomain(uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain),
     CUPTI_SUCCESS)
CUptiResult cuptiGetCallbackName(CUpti_CallbackDomain domain, uint32_t cbid, const char** name) {
  if (cbid > 800) return CUPTI_ERROR_INVALID_PARAMETER;
  *name = "other";
  if (domain == CUPTI_CB_DOMAIN_RUNTIME_API) {
    if (cbid == kRuntimeLaunch) *name = "cudaLaunchKernel_v7000";
    return CUPTI_SUCCESS;
  }
  if (cbid == kLaunchKernel) *name = "cuLaunchKernel";
  if (cbid == kGraphLaunch) *name = "cuGraphLaunch";
  if (cbid == kBeginCapture) *name = "cuStreamBeginCapture_v2";
  if (cbid == kEndCapture) *name = "cuStreamEndCapture";
  if (cbid == kDestroy) *name = "cuCtxDestroy_v2";
  if (cbid == kInstantiate) *name = "cuGraphInstantiateWithFlags";
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
STUB(CUptiResult cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc function),
     timestamp = function, CUPTI_SUCCESS)
// Without a callback: the clock of the records, which need not be any of the system's.
STUB(CUptiResult cuptiGetTimestamp(uint64_t* time), *time = now(), CUPTI_SUCCESS)
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (const int error = failure("enable=")) return static_cast<CUptiResult>(error);
  const int error = kind == CUPTI_ACTIVITY_KIND_MEMCPY ? failure("copies=") : 0;
  if (error != 0) return static_cast<CUptiResult>(error);
  enabled_kinds[kind] = true;
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) kernels = true;
  if (kind == CUPTI_ACTIVITY_KIND_MEMORY2) memory = true;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
  enabled_kinds[kind] = false;
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) kernels = false;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNextRecord(uint8_t* bytes, size_t valid, CUpti_Activity** record) {
  uint8_t* next = bytes;
  if (*record != nullptr) next = reinterpret_cast<uint8_t*>(*record) + size_of((*record)->kind);
  if (next >= bytes + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  if (size_of(reinterpret_cast<CUpti_Activity*>(next)->kind) == 0) return CUPTI_ERROR_INVALID_KIND;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped),
     *dropped = 0, CUPTI_SUCCESS)
CUptiResult cuptiActivityEnableHWTrace(uint8_t enable) {
  hardware_trace = enable != 0 && driver_ready ? 1 : -1;
  return driver_ready ? CUPTI_SUCCESS : CUPTI_ERROR_NOT_INITIALIZED;
}
CUptiResult cuptiActivityFlushAll(uint32_t) {
  if (over || in_resource_callback) {
    std::fputs(over ? "flushed after the end\n" : "flushed in a resource callback\n", stderr);
    std::abort();
  }
  if (bool (*step)() = flush_step.exchange(nullptr)) {
    while (!step()) {
    }
  }
  const std::lock_guard<std::mutex> lock(mutex);
  hand_over();
  ++flushes;
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiActivityFlushPeriod(uint32_t), CUPTI_SUCCESS)
STUB(CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, size_t*, void*), CUPTI_SUCCESS)
STUB(CUptiResult cuptiGetGraphNodeId(CUgraphNode node, uint64_t* id),
     *id = reinterpret_cast<uint64_t>(node), CUPTI_SUCCESS)
STUB(CUptiResult cuptiGetGraphId(CUgraph, uint32_t* id), *id = 3, CUPTI_SUCCESS)
STUB(CUptiResult cuptiGetResultString(CUptiResult, const char** text), *text = "a fake error",
     CUPTI_SUCCESS)
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
  const std::lock_guard<std::mutex> lock(mutex);
  *status = capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

// The driver's part: every function takes one pointer and one 4-byte number. Odd handles are of a
// CUkernel, of which the function for a CUfunction knows nothing.
CUresult parameter(bool mine, size_t index, size_t* offset, size_t* bytes) {
  if (!mine || index > 1) return CUDA_ERROR_INVALID_VALUE;
  *offset = index * 8;
  *bytes = index == 0 ? 8 : second_bytes.load();
  return CUDA_SUCCESS;
}
STUB(CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes),
     parameter(reinterpret_cast<uintptr_t>(function) % 2 == 0, index, offset, bytes))
STUB(CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t* offset, size_t* bytes),
     parameter(reinterpret_cast<uintptr_t>(kernel) % 2 == 1, index, offset, bytes))
void fake_second_parameter(uint64_t bytes) {
  second_bytes = bytes;
}

}  // extern "C"
