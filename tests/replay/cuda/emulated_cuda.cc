// SPDX-License-Identifier: Apache-2.0
// As much of the CUDA runtime as the CUDA device calls, over emulated kernels: what is put into
// streams and graphs runs only when somebody waits, in any order that dependencies and events
// allow, drawn by chance. So a missing edge shows. Memory is the host's, and counted.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "replay/cuda/kernels/kernels.h"
#include "tests/replay/cuda/emulated_cuda.h"
#include "tests/replay/cuda/emulated_gpu.h"
#include "tests/replay/cuda/emulated_graph.h"
#include "tests/support/stub.h"

namespace {

constexpr size_t kTotalBytes = size_t{1} << 30;

struct Device {
  std::mt19937 random{1};
  std::map<void*, size_t> memory;
  std::set<CUstream_st*> streams;
  CUstream_st default_stream;
  int events = 0, graphs = 0, executables = 0;
  size_t persisting_bytes = 128 << 10;
  size_t used_bytes() const {
    size_t used = 0;
    for (const auto& [address, bytes] : memory) used += bytes;
    return used;
  }
};
Device device;

// A call of a kernel with copies of its arguments, as a launch makes them.
template <typename... Args>
Work call_of(const void* function, void** arguments) {
  std::tuple<Args...> copies;
  std::apply(
      [&](Args&... each) {
        int i = 0;
        (std::memcpy(&each, arguments[i++], sizeof(each)), ...);
      },
      copies);
  return [kernel = reinterpret_cast<void (*)(Args...)>(const_cast<void*>(function)), copies] {
    std::apply(kernel, copies);
  };
}

Work bind(const void* function, void** arguments) {
  using namespace preserve::cuda;
  const auto is = [function](const Kernel& kernel) { return kernel.function == function; };
  if (is(opening_kernel()) || is(closing_kernel())) {
    return call_of<ClosingArgs>(function, arguments);
  }
  if (is(fill_kernel())) return call_of<uint64_t, uint64_t>(function, arguments);
  if (is(link_kernel())) {
    return call_of<uint64_t, const uint64_t*, uint64_t>(function, arguments);
  }
  if (is(arithmetic_kernel())) return call_of<uint64_t*, uint64_t>(function, arguments);
  if (is(timer_tick_kernel())) return call_of<uint64_t*>(function, arguments);
  if (is(sm_latency_kernel())) {
    return call_of<uint64_t*, uint32_t, uint64_t, uint32_t>(function, arguments);
  }
  return call_of<NodeArgs>(function, arguments);
}

Work launch_of(const void* function, unsigned blocks, unsigned threads, void** arguments) {
  return [thread = bind(function, arguments), blocks, threads] {
    preserve::emulated::recording = false;
    preserve::emulated::advance(1000);  // what starting a kernel takes
    preserve::emulated::launch(blocks, threads, thread);
  };
}

CUstream_st& stream_of(cudaStream_t stream) {
  return stream == nullptr ? device.default_stream : *stream;
}

cudaError_t enqueue(cudaStream_t handle, Work work, bool kernel) {
  CUstream_st& stream = stream_of(handle);
  if (stream.capturing == nullptr) {
    stream.queue.push_back({std::move(work)});
    return cudaSuccess;
  }
  auto node = std::make_unique<CUgraphNode_st>();
  node->work = std::move(work);
  node->after = stream.last;
  node->kernel = kernel;
  stream.last = {node.get()};
  stream.capturing->nodes.push_back(std::move(node));
  return cudaSuccess;
}

bool can_go_on(const CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  const CUstream_st::Entry& head = stream.queue.front();
  return head.wait_for == nullptr || head.wait_for->completed >= head.version;
}

// Runs everything, the streams' entries in turns drawn by chance.
void drain() {
  while (true) {
    std::vector<CUstream_st*> ready;
    if (can_go_on(device.default_stream)) ready.push_back(&device.default_stream);
    for (CUstream_st* stream : device.streams) {
      if (can_go_on(*stream)) ready.push_back(stream);
    }
    if (ready.empty()) return;
    CUstream_st& stream = *ready[device.random() % ready.size()];
    const CUstream_st::Entry entry = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (entry.work) entry.work();
  }
}

void run_graph(const CUgraphExec_st& executable, const std::vector<bool>& enabled) {
  std::vector<bool> done(executable.nodes.size());
  for (size_t count = 0; count < done.size(); ++count) {
    std::vector<size_t> ready;
    for (size_t i = 0; i < done.size(); ++i) {
      bool can = !done[i];
      for (const size_t before : executable.nodes[i].after) can = can && done[before];
      if (can) ready.push_back(i);
    }
    const size_t next = ready[device.random() % ready.size()];
    if (enabled[next]) executable.nodes[next].work();
    done[next] = true;
  }
}

void record(CUevent_st* event, int version) {
  event->completed = version;
  event->time_ns = preserve::emulated::timer_ns();
}

}  // namespace

namespace preserve::emulated {
bool under_mps = false;
int set_asides = 0;

Allocation allocation_around(uint64_t address) {
  for (const auto& [begin, bytes] : device.memory) {
    const auto base = reinterpret_cast<uint64_t>(begin);
    if (base <= address && address - base < bytes) return {base, bytes};
  }
  return {};
}

void enqueue(CUstream stream, Work work) {
  ::enqueue(stream, std::move(work), true);
}

size_t live_objects() {
  return device.memory.size() + device.streams.size() +
         static_cast<size_t>(device.events + device.graphs + device.executables);
}
}  // namespace preserve::emulated

extern "C" {

// For libraries that put work into a stream.
void emulated_cuda_enqueue(cudaStream_t stream, void (*work)(void*), void* data) {
  preserve::emulated::enqueue(stream, [work, data] { work(data); });
}

STUB(cudaError_t cudaGetLastError(), cudaSuccess)
STUB(const char* cudaGetErrorName(cudaError_t), "emulated error")
STUB(const char* cudaGetErrorString(cudaError_t), "an error of the emulation")
STUB(cudaError_t cudaDriverGetVersion(int* version), *version = 13000, cudaSuccess)
STUB(cudaError_t cudaRuntimeGetVersion(int* version), *version = 13000, cudaSuccess)
STUB(cudaError_t cudaGetDeviceCount(int* count), *count = 1, cudaSuccess)
STUB(cudaError_t cudaSetDevice(int), cudaSuccess)
STUB(cudaError_t cudaDeviceGetPCIBusId(char*, int, int), cudaErrorInvalidValue)

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Emulated GPU");
  properties->major = 9;
  properties->multiProcessorCount = preserve::emulated::kSms;
  properties->l2CacheSize = 2 << 20;
  properties->persistingL2CacheMaxSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
  if (limit != cudaLimitPersistingL2CacheSize) return cudaErrorUnsupportedLimit;
  *value = device.persisting_bytes;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute != cudaDevAttrMpsEnabled) return cudaErrorInvalidValue;
  return *value = preserve::emulated::under_mps ? 1 : 0, cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value) {
  if (limit != cudaLimitPersistingL2CacheSize || preserve::emulated::under_mps) {
    return cudaErrorUnsupportedLimit;
  }
  ++preserve::emulated::set_asides;
  device.persisting_bytes = value;
  return cudaSuccess;
}
STUB(cudaError_t cudaCtxResetPersistingL2Cache(), cudaSuccess)

// Aligned to no more than CUDA guarantees.
cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (device.used_bytes() + bytes > kTotalBytes) return cudaErrorMemoryAllocation;
  auto* memory = static_cast<char*>(::operator new (bytes + 256, std::align_val_t{4096}));
  std::memset(memory, 0xA5, bytes + 256);
  *address = memory + 256;
  device.memory[*address] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* address) {
  if (address == nullptr) return cudaSuccess;
  drain();
  if (device.memory.erase(address) == 0) return cudaErrorInvalidValue;
  ::operator delete (static_cast<char*>(address) - 256, std::align_val_t{4096});
  return cudaSuccess;
}
STUB(cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes),
     *total_bytes = kTotalBytes, *free_bytes = kTotalBytes - device.used_bytes(), cudaSuccess)
STUB(cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind), drain(),
     std::memcpy(to, from, bytes), cudaSuccess)
STUB(cudaError_t cudaMemset(void* address, int value, size_t bytes), drain(),
     std::memset(address, value, bytes), cudaSuccess)
STUB(cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned), cudaMalloc(address, bytes))
STUB(cudaError_t cudaHostGetDevicePointer(void** address, void* host, unsigned), *address = host,
     cudaSuccess)
STUB(cudaError_t cudaFreeHost(void* address), cudaFree(address))

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* function, dim3 blocks, dim3 threads, void** arguments,
                             size_t, cudaStream_t stream) {
  return enqueue(stream, launch_of(function, blocks.x, threads.x, arguments), true);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id != cudaLaunchAttributeLaunchCompletionEvent) {
      return cudaErrorInvalidValue;
    }
    CUevent_st* event = config->attrs[i].val.launchCompletionEvent.event;
    const int version = ++event->recorded;
    enqueue(
        config->stream, [event, version] { record(event, version); }, false);
  }
  return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, 0,
                          config->stream);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  device.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  drain();
  device.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
// Whoever waits for one stream need not find that others have gone on; here all do.
STUB(cudaError_t cudaStreamSynchronize(cudaStream_t), drain(), cudaSuccess)
STUB(cudaError_t cudaDeviceSynchronize(), drain(), cudaSuccess)
STUB(cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned),
     stream_of(stream).queue.push_back({nullptr, event, event->recorded}), cudaSuccess)

STUB(cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned), ++device.events,
     *event = new CUevent_st, cudaSuccess)
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  drain();
  --device.events;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const int version = ++event->recorded;
  return enqueue(
      stream, [event, version] { record(event, version); }, false);
}
STUB(cudaError_t cudaEventSynchronize(cudaEvent_t), drain(), cudaSuccess)
STUB(cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end),
     *ms = static_cast<float>(static_cast<double>(end->time_ns - begin->time_ns) / 1e6),
     cudaSuccess)

STUB(cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned), ++device.graphs,
     *graph = new CUgraph_st, cudaSuccess)
STUB(cudaError_t cudaGraphDestroy(cudaGraph_t graph), --device.graphs, delete graph, cudaSuccess)
STUB(cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type),
     *type = node->kernel ? cudaGraphNodeTypeKernel : cudaGraphNodeTypeMemcpy, cudaSuccess)
cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* after,
                             const cudaGraphEdgeData* edges, size_t count,
                             cudaGraphNodeParams* parameters) {
  if (parameters->type != cudaGraphNodeTypeKernel) return cudaErrorInvalidValue;
  auto made = std::make_unique<CUgraphNode_st>();
  made->kernel = true;
  const auto& kernel = parameters->kernel;
  made->work = launch_of(kernel.func, kernel.gridDim.x, kernel.blockDim.x, kernel.kernelParams);
  for (size_t i = 0; i < count; ++i) {
    if (edges != nullptr && edges[i].type == cudaGraphDependencyTypeProgrammatic) {
      if (edges[i].from_port != cudaGraphKernelNodePortLaunchCompletion || !after[i]->kernel) {
        return cudaErrorInvalidValue;
      }
      // Begins with it: here, when what that one waits for is done.
      made->after.insert(made->after.end(), after[i]->after.begin(), after[i]->after.end());
      continue;
    }
    if (std::find(made->after.begin(), made->after.end(), after[i]) != made->after.end()) {
      return cudaErrorInvalidValue;  // the same edge twice
    }
    made->after.push_back(after[i]);
  }
  *node = made.get();
  graph->nodes.push_back(std::move(made));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  ++device.executables;
  *executable = new CUgraphExec_st;
  std::map<const CUgraphNode_st*, size_t> index;
  for (const auto& node : graph->nodes) {
    CUgraphExec_st::Node copy{node->work, {}};
    for (const CUgraphNode_st* before : node->after) copy.after.push_back(index.at(before));
    index[node.get()] = (*executable)->nodes.size();
    (*executable)->nodes.push_back(std::move(copy));
  }
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  drain();
  --device.executables;
  delete executable;
  return cudaSuccess;
}
STUB(cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t), cudaSuccess)
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  std::vector<bool> enabled;  // later changes are for later launches
  for (const CUgraphExec_st::Node& node : executable->nodes) enabled.push_back(node.enabled);
  return enqueue(
      stream, [executable, enabled] { run_graph(*executable, enabled); }, false);
}

cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph,
                                          const cudaGraphNode_t* after, const cudaGraphEdgeData*,
                                          size_t count, cudaStreamCaptureMode) {
  if (stream->capturing != nullptr || !stream->queue.empty()) return cudaErrorIllegalState;
  stream->capturing = graph;
  stream->last.assign(after, after + count);
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long*, cudaGraph_t*,
                                     const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                     size_t* count) {
  if (edges == nullptr) return cudaErrorLossyQuery;
  *status =
      stream->capturing == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  *nodes = stream->last.data();
  *edges = nullptr;
  *count = stream->last.size();
  return cudaSuccess;
}
STUB(cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph),
     *graph = std::exchange(stream->capturing, nullptr), cudaSuccess)
}
