// SPDX-License-Identifier: Apache-2.0
// CUPTI's callbacks on the program's own threads: the calls that make, change, launch and destroy
// graphs. What to listen to is chosen by the names of the callbacks, so that newer versions of a
// function are seen too.
#include <cupti.h>
#include <dlfcn.h>

#include <atomic>

#include "apply/library/cuda/process.h"
#include "hooks/cuda/callback_name.h"
#include "hooks/cuda/cupti_library.h"

namespace preserve::apply {
namespace {

using hooks::is_function;

enum class Call : uint8_t {
  none,
  memory,  // what a program calls once it has a context
  instantiate_with_flags,
  instantiate_with_params,
  instantiate,  // without flags
  launch,
  update,
  clone,
  add_child,
  add_node,  // of any kind
  add_node_with_edges,
  update_child,
  set_node,             // of any kind: its parameters
  set_executable_node,  // the same, of an executable graph
  destroy_executable,
  destroy_graph,
  destroy_node,
  destroy_context,
  destroy_green_context,
  release_primary,  // the context that a device's users share
  reset_primary,
  free_memory,
  unmap_memory
};
constexpr uint32_t kMostCalls = 2048;
Call calls[kMostCalls] = {};
bool per_thread[kMostCalls] = {};  // stream 0 is one of the calling thread's own

struct Cupti {
  decltype(&::cuptiGetVersion) version = nullptr;
  decltype(&::cuptiSubscribe) subscribe = nullptr;
  decltype(&::cuptiUnsubscribe) unsubscribe = nullptr;
  decltype(&::cuptiSubscribe_v2) subscribe_v2 = nullptr;  // newer than the others
  decltype(&::cuptiEnableCallback) enable = nullptr;
  decltype(&::cuptiGetCallbackName) name = nullptr;
};
Cupti cupti;
CUpti_SubscriberHandle subscriber = nullptr;
using Needs = GraphSession::Needs;
std::atomic<Needs> listening{Needs::nothing};
std::atomic<bool> changes_listening{false};

// The call of this thread that is in progress.
struct OpenCall {
  bool busy;  // inside our own callback: CUDA calls of ours are not the program's
  bool measured;
  GraphSession::Instantiation begun;
  unsigned long long* flags;  // of the program's own parameters, to be put back
  unsigned long long program_flags;
};
constinit thread_local OpenCall open_call __attribute__((tls_model("initial-exec"))) = {};

Call call_of(std::string_view name) {
  if (is_function(name, "cuGraphInstantiateWithFlags")) return Call::instantiate_with_flags;
  if (is_function(name, "cuGraphInstantiateWithParams")) return Call::instantiate_with_params;
  if (is_function(name, "cuGraphInstantiate")) return Call::instantiate;
  if (is_function(name, "cuGraphLaunch")) return Call::launch;
  if (is_function(name, "cuGraphExecUpdate")) return Call::update;
  if (is_function(name, "cuGraphClone")) return Call::clone;
  if (is_function(name, "cuGraphAddChildGraphNode")) return Call::add_child;
  if (is_function(name, "cuGraphAddNode_v2")) return Call::add_node_with_edges;
  if (is_function(name, "cuGraphAddNode")) return Call::add_node;
  if (is_function(name, "cuGraphExecChildGraphNodeSetParams")) return Call::update_child;
  if (is_function(name, "cuGraphNodeSetParams")) return Call::set_node;
  if (is_function(name, "cuGraphExecNodeSetParams")) return Call::set_executable_node;
  if (is_function(name, "cuGraphExecDestroy")) return Call::destroy_executable;
  if (is_function(name, "cuGraphDestroy")) return Call::destroy_graph;
  if (is_function(name, "cuGraphDestroyNode")) return Call::destroy_node;
  if (is_function(name, "cuCtxDestroy") || is_function(name, "cuCtxDetach")) {
    return Call::destroy_context;
  }
  if (is_function(name, "cuGreenCtxDestroy")) return Call::destroy_green_context;
  if (is_function(name, "cuDevicePrimaryCtxRelease")) return Call::release_primary;
  if (is_function(name, "cuDevicePrimaryCtxReset")) return Call::reset_primary;
  if (is_function(name, "cuMemFree") || is_function(name, "cuMemFreeAsync") ||
      is_function(name, "cuIpcCloseMemHandle")) {
    return Call::free_memory;
  }
  if (is_function(name, "cuMemUnmap")) return Call::unmap_memory;
  if (name.starts_with("cuMemAlloc") || name.starts_with("cuStreamCreate") ||
      is_function(name, "cuMemCreate") || name.starts_with("cuCtxCreate")) {
    return Call::memory;
  }
  return Call::none;
}

// All functions that instantiate begin with the same two parameters.
struct InstantiateParams {
  CUgraphExec* executable;
  CUgraph graph;
};
static_assert(offsetof(cuGraphInstantiateWithFlags_params, hGraph) ==
                  offsetof(InstantiateParams, graph) &&
              offsetof(cuGraphInstantiateWithParams_params, hGraph) ==
                  offsetof(InstantiateParams, graph) &&
              offsetof(cuGraphInstantiate_v2_params, hGraph) == offsetof(InstantiateParams, graph));

void before_instantiate(GraphSession& session, Call call, const void* params) {
  const auto& common = *static_cast<const InstantiateParams*>(params);
  uint64_t flags = 0;
  unsigned long long* own = nullptr;  // flags that are the program's to be written to
  if (call == Call::instantiate_with_flags) {
    flags = static_cast<const cuGraphInstantiateWithFlags_params*>(params)->flags;
  } else if (call == Call::instantiate_with_params) {
    auto* given =
        static_cast<const cuGraphInstantiateWithParams_params*>(params)->instantiateParams;
    if (given == nullptr) return;
    flags = given->flags;
    static_assert(sizeof(given->flags) == sizeof(*own));
    own = reinterpret_cast<unsigned long long*>(&given->flags);
  }
  open_call.begun = session.instantiating(common.graph, flags);
  if (own != nullptr) {
    open_call.flags = own;
    open_call.program_flags = flags;
    *own = open_call.begun.flags;
  } else {
    open_call.begun.flags = flags;  // CUPTI shows them and takes none back
  }
}

void after_instantiate(GraphSession& session, const void* params, bool done) {
  const auto& common = *static_cast<const InstantiateParams*>(params);
  if (open_call.flags != nullptr) *open_call.flags = open_call.program_flags;
  open_call.flags = nullptr;
  const CUgraphExec executable =
      done && common.executable != nullptr ? *common.executable : nullptr;
  session.instantiated(common.graph, executable, open_call.begun, executable != nullptr);
  open_call.begun = {};
}

void before_node(GraphSession& session, const CUgraphNodeParams* params) {
  if (params != nullptr && params->type == CU_GRAPH_NODE_TYPE_GRAPH) {
    session.copying(params->graph.graph);
  }
}

CUstream stream_of(const cuGraphLaunch_params& launch, CUpti_CallbackId id) {
  return launch.hStream == nullptr && per_thread[id] ? CU_STREAM_PER_THREAD : launch.hStream;
}

void before(GraphSession& session, CUpti_CallbackId id, const void* params) {
  const Call call = calls[id];
  switch (call) {
    case Call::instantiate_with_flags:
    case Call::instantiate_with_params:
    case Call::instantiate:
      return before_instantiate(session, call, params);
    case Call::launch: {
      const auto& launch = *static_cast<const cuGraphLaunch_params*>(params);
      open_call.measured = session.launching(launch.hGraph, stream_of(launch, id));
      return;
    }
    case Call::update: {
      const auto& update = *static_cast<const cuGraphExecUpdate_v2_params*>(params);
      return session.updating(update.hGraphExec, update.hGraph);
    }
    case Call::clone:
      return session.copying(static_cast<const cuGraphClone_params*>(params)->originalGraph);
    case Call::add_child:
      return session.copying(
          static_cast<const cuGraphAddChildGraphNode_params*>(params)->childGraph);
    case Call::add_node:
      return before_node(session, static_cast<const cuGraphAddNode_params*>(params)->nodeParams);
    case Call::add_node_with_edges:
      return before_node(session, static_cast<const cuGraphAddNode_v2_params*>(params)->nodeParams);
    case Call::update_child:
      return session.copying(
          static_cast<const cuGraphExecChildGraphNodeSetParams_params*>(params)->childGraph);
    case Call::set_node:
      return before_node(session,
                         static_cast<const cuGraphNodeSetParams_params*>(params)->nodeParams);
    case Call::set_executable_node:
      return before_node(session,
                         static_cast<const cuGraphExecNodeSetParams_params*>(params)->nodeParams);
    case Call::destroy_executable:  // the first parameter, as of the others
      return session.destroyed(*static_cast<const CUgraphExec*>(params));
    case Call::destroy_graph:
      return session.destroyed(*static_cast<const CUgraph*>(params));
    case Call::destroy_node:
      return session.destroyed(*static_cast<const CUgraphNode*>(params));
    case Call::destroy_context:
      return session.destroyed(*static_cast<const CUcontext*>(params));
    case Call::destroy_green_context:
      return session.destroyed(*static_cast<const CUgreenCtx*>(params));
    case Call::free_memory:
      return session.freed(*static_cast<const CUdeviceptr*>(params), 1);
    case Call::unmap_memory: {
      const auto& unmap = *static_cast<const cuMemUnmap_params*>(params);
      return session.freed(unmap.ptr, unmap.size);
    }
    case Call::none:
    case Call::memory:
    case Call::release_primary:
    case Call::reset_primary:
      return;
  }
}

void after(GraphSession& session, CUpti_CallbackId id, const void* params, bool done) {
  const Call call = calls[id];
  switch (call) {
    case Call::memory:
      return session.context_ready();
    case Call::instantiate_with_flags:
    case Call::instantiate_with_params:
    case Call::instantiate:
      return after_instantiate(session, params, done);
    case Call::launch:
      if (open_call.measured) {
        const auto& launch = *static_cast<const cuGraphLaunch_params*>(params);
        session.launched(launch.hGraph, stream_of(launch, id), done);
      }
      open_call.measured = false;
      return;
    case Call::update:
      return session.updated(static_cast<const cuGraphExecUpdate_v2_params*>(params)->hGraphExec,
                             done);
    case Call::release_primary:
    case Call::reset_primary:
      if (!done) return;
      return session.primary_given_up(*static_cast<const CUdevice*>(params),
                                      call == Call::reset_primary);
    default:
      return;
  }
}

// Calls that are many, and of which nothing is to be known once no graph fetches any more.
bool is_frequent(Call call) {
  return call == Call::memory || call == Call::launch || call == Call::free_memory ||
         call == Call::unmap_memory;
}

// The program pays nothing for a plan that is off. What CUPTI does not disable is listened to.
void listen_less(const GraphSession& session) {
  if (session.needs() >= listening.load(std::memory_order_relaxed)) return;
  if (changes_listening.exchange(true, std::memory_order_acquire)) return;  // one at a time
  // Another thread may have been here in between.
  const Needs needs = session.needs(), before = listening.load(std::memory_order_relaxed);
  if (needs < before && needs == Needs::nothing) {
    (void)cupti.unsubscribe(subscriber);
  } else if (needs < before) {
    for (uint32_t id = 1; id < kMostCalls; ++id) {
      if (is_frequent(calls[id])) {
        (void)cupti.enable(0, subscriber, CUPTI_CB_DOMAIN_DRIVER_API, id);
      }
    }
  }
  listening.store(needs, std::memory_order_relaxed);
  changes_listening.store(false, std::memory_order_release);
}

void CUPTIAPI on_callback(void*, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                          const void* described) {
  GraphSession* session = graph_session();
  if (session == nullptr || domain != CUPTI_CB_DOMAIN_DRIVER_API || id >= kMostCalls ||
      open_call.busy) {
    return;
  }
  const auto& data = *static_cast<const CUpti_CallbackData*>(described);
  open_call.busy = true;
  if (data.callbackSite == CUPTI_API_ENTER) {
    before(*session, id, data.functionParams);
  } else {
    const auto* result = static_cast<const CUresult*>(data.functionReturnValue);
    after(*session, id, data.functionParams, result != nullptr && *result == CUDA_SUCCESS);
    listen_less(*session);
  }
  open_call.busy = false;
}

// As CUPTI has them since 13.2, whatever the headers are.
constexpr uint32_t kSeveralTools = 130200;
struct SubscriberParams {
  size_t bytes;
  const char* name;
  char* other;
  size_t other_bytes;
  uint8_t beside_others;
};
static_assert(offsetof(SubscriberParams, other_bytes) ==
              offsetof(CUpti_SubscriberParams, oldSubscriberSize));

// Beside other tools where CUPTI and they allow it, else alone.
bool subscribe() {
  uint32_t version = 0;
  if (cupti.subscribe_v2 != nullptr && cupti.version(&version) == CUPTI_SUCCESS &&
      version >= kSeveralTools) {
    SubscriberParams params{offsetof(SubscriberParams, beside_others) + 1, "preserve-apply",
                            nullptr, 0, 1};
    if (cupti.subscribe_v2(&subscriber, on_callback, nullptr,
                           reinterpret_cast<CUpti_SubscriberParams*>(&params)) == CUPTI_SUCCESS) {
      return true;
    }
  }
  return cupti.subscribe(&subscriber, on_callback, nullptr) == CUPTI_SUCCESS;
}

}  // namespace

Off listen_to_driver() {
  void* library = hooks::find_cupti();
  if (library == nullptr) return Off::no_callbacks;
  cupti.version = reinterpret_cast<decltype(cupti.version)>(::dlsym(library, "cuptiGetVersion"));
  cupti.subscribe_v2 =
      reinterpret_cast<decltype(cupti.subscribe_v2)>(::dlsym(library, "cuptiSubscribe_v2"));
  cupti.subscribe = reinterpret_cast<decltype(cupti.subscribe)>(::dlsym(library, "cuptiSubscribe"));
  cupti.unsubscribe =
      reinterpret_cast<decltype(cupti.unsubscribe)>(::dlsym(library, "cuptiUnsubscribe"));
  cupti.enable = reinterpret_cast<decltype(cupti.enable)>(::dlsym(library, "cuptiEnableCallback"));
  cupti.name = reinterpret_cast<decltype(cupti.name)>(::dlsym(library, "cuptiGetCallbackName"));
  if (cupti.version == nullptr || cupti.subscribe == nullptr || cupti.unsubscribe == nullptr ||
      cupti.enable == nullptr || cupti.name == nullptr || !subscribe()) {
    return Off::no_callbacks;
  }
  uint32_t enabled = 0;
  listening.store(Needs::all, std::memory_order_relaxed);
  // Names end where the library's list ends; gaps do not occur.
  for (uint32_t id = 1; id < kMostCalls; ++id) {
    const char* name = nullptr;
    if (cupti.name(CUPTI_CB_DOMAIN_DRIVER_API, id, &name) != CUPTI_SUCCESS) break;
    calls[id] = name == nullptr ? Call::none : call_of(name);
    per_thread[id] = name != nullptr && std::string_view(name).ends_with("_ptsz");
    if (calls[id] == Call::none) continue;
    const CUptiResult result = cupti.enable(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API, id);
    if (result == CUPTI_SUCCESS) ++enabled;
  }
  if (enabled > 0) return Off::none;
  (void)cupti.unsubscribe(subscriber);  // another tool may have it
  return Off::no_callbacks;
}

}  // namespace preserve::apply
