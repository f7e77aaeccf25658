// SPDX-License-Identifier: Apache-2.0
// What a session has in each context, how fetches in it end, and memory that is given up.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iterator>

#include "apply/library/cuda/session.h"

namespace preserve::apply {
namespace {

constexpr int kStartEdges = 12030;  // CUDA version

}  // namespace

CUcontext GraphSession::current_context() const {
  CUcontext current = nullptr;
  return driver_.current_context(&current) == CUDA_SUCCESS ? current : nullptr;
}

GraphSession::Context* GraphSession::find(CUcontext context) {
  for (Context& known : contexts_) {
    if (known.kernel.context == context) return &known;
  }
  return nullptr;
}

void GraphSession::context_ready() {
  if (is_off()) return;  // every allocation comes by here
  const CUcontext current = current_context();
  if (current == nullptr) return;
  Context* context = nullptr;
  {
    const Lock lock(*this);
    if (is_off() || find(current) != nullptr) return;
    context = find(static_cast<CUcontext>(nullptr));
    if (context == nullptr) return;
    context->kernel.context = current;  // without a function it is no graph's
    context->loading = true;
  }
  Context loaded;
  loaded.kernel.context = current;
  const bool done = load(loaded);
  const Lock lock(*this);
  if (context->kernel.context != current) return;
  if (done) *context = loaded;
  context->loading = false;
  ::pthread_cond_broadcast(&unmarked_);
}

bool GraphSession::load(Context& context) {
  const Uncaptured uncaptured(driver_);
  if (!ok(uncaptured.result())) return false;
  PrefetchKernel& kernel = context.kernel;
  CUmodule module = nullptr;
  int greatest = 0, version = 0, cache_bytes = 0, processors = 0;
  if (!ok(driver_.version(&version)) || !ok(driver_.current_device(&kernel.device)) ||
      !ok(driver_.device_attribute(&cache_bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
                                   kernel.device)) ||
      !ok(driver_.device_attribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                   kernel.device))) {
    return false;
  }
  // Retaining one that is there, as the current one is, changes nothing but a count.
  CUcontext primary = nullptr;
  unsigned flags = 0;
  int active = 0;
  if (!ok(driver_.primary_state(kernel.device, &flags, &active)) ||
      (active != 0 && (!ok(driver_.retain_primary(&primary, kernel.device)) ||
                       !ok(driver_.release_primary(kernel.device))))) {
    return false;
  }
  context.primary = primary == kernel.context;
  if (static_cast<uint64_t>(cache_bytes) < plan_.header().budget_bytes) {
    context.refusal = Refusal::little_cache;
    return true;
  }
  char name[48];
  std::snprintf(name, sizeof(name), "preserve_%s%s",
                kGraphFetchNames[static_cast<size_t>(plan_.header().fetch)].data(),
                plan_.header().kept != 0 ? "_kept" : "");
  CUfunction function = nullptr;
  const CUresult loaded = driver_.load_module(&module, image_);
  if (loaded == CUDA_ERROR_NO_BINARY_FOR_GPU || loaded == CUDA_ERROR_UNSUPPORTED_PTX_VERSION) {
    context.refusal = Refusal::no_module;  // an older GPU, perhaps beside others
    return true;
  }
  if (!ok(loaded) || !ok(driver_.priority_range(&kernel.priority, &greatest)) ||
      !ok(driver_.module_function(&function, module, name)) ||
      !ok(driver_.allocate(&kernel.applied, sizeof(PrefetchSwitch))) ||
      !ok(driver_.fill(kernel.applied, 0, sizeof(PrefetchSwitch) / sizeof(uint32_t)))) {
    return false;
  }
  kernel.has_start_edges = version >= kStartEdges;
  kernel.most_blocks = static_cast<uint32_t>(std::max(processors, 1));
  kernel.function = function;
  return true;
}

void GraphSession::primary_given_up(CUdevice device, bool reset) {
  CUcontext primary = nullptr;
  {
    const Lock lock(*this);
    for (const Context& known : contexts_) {
      if (known.primary && known.kernel.device == device) primary = known.kernel.context;
    }
  }
  unsigned flags = 0;
  int active = 0;
  // One that was reset may be there again, as another.
  if (primary == nullptr ||
      (!reset && driver_.primary_state(device, &flags, &active) == CUDA_SUCCESS && active != 0)) {
    return;
  }
  destroyed(primary);
}

void GraphSession::destroyed(CUgreenCtx context) {
  CUcontext known = nullptr;
  if (context != nullptr && ok(driver_.green_context(&known, context))) destroyed(known);
}

// What it held goes with it: no call of the driver.
void GraphSession::destroyed(CUcontext context) {
  const Lock lock(*this);
  Context* known = context == nullptr ? nullptr : find(context);
  if (known == nullptr) return;
  for (Executable& executable : executables_) {
    if (executable.handle != nullptr && executable.context == known) forget(executable);
  }
  for (Graph& graph : graphs_) {
    if (graph.handle == nullptr || graph.mark != Graph::Mark::none ||
        graph.added.kernel() != &known->kernel) {
      continue;
    }
    graph.added.forget();
    graph.handle = nullptr;
  }
  *known = {};
  ::pthread_cond_broadcast(&unmarked_);
  update_needs();
}

void GraphSession::freed(CUdeviceptr begin, uint64_t bytes) {
  if (!edited_.load(std::memory_order_relaxed)) return;
  const Lock lock(*this);
  if (!followed_.free(begin, bytes)) return;
  for (Executable& executable : executables_) {
    if (executable.handle == nullptr ||
        !FollowedMemory::begins_in(executable.allocations, {begin, bytes})) {
      continue;
    }
    executable.stale = true;
    must_look_.store(true, std::memory_order_relaxed);
  }
  for (Graph& graph : graphs_) {
    // One that is being changed looks at the frees meanwhile itself.
    if (graph.handle != nullptr && graph.mark != Graph::Mark::changed &&
        FollowedMemory::begins_in(graph.added.allocations(), {begin, bytes})) {
      graph.added.set_stale();
    }
  }
}

void GraphSession::follow(std::span<const CUdeviceptr> allocations) {
  if (followed_.follows(allocations)) return;
  followed_.follow([&](auto add) {
    for (const Executable& executable : executables_) add(executable.allocations);
    for (const Graph& graph : graphs_) {
      if (graph.mark != Graph::Mark::changed) add(graph.added.allocations());
    }
  });
}

// --- how fetches end -----------------------------------------------------------------------------

// `chosen`: by the launch that is measured. Another one gets the arm that this was launched in
// last. Chosen together with the write, so that nobody else writes what the measured launch is to
// wait for.
bool GraphSession::follow_arm(Context& context, CUstream stream, std::optional<bool> chosen) {
  bool applied = false;
  CUdeviceptr to = 0;
  {
    const Lock lock(*this);
    if (chosen) applied_ = *chosen;
    to = context.kernel.applied;
    if (context.applied == applied_ || to == 0 || is_off()) return true;
    applied = context.applied = applied_;
    context.fetched = context.fetched || applied;  // before it may be
  }
  return ok(driver_.write_value(stream, to, applied ? 1 : 0, CU_STREAM_WRITE_VALUE_DEFAULT));
}

// Before what is launched into `stream` next: fetches of others may go on until they come by such
// a write. `again`: what is launched may fetch from freed memory, so that it needs its own.
void GraphSession::end_fetches(Context& context, CUstream stream, bool again) {
  CUdeviceptr to = 0;
  bool writes = false;
  {
    const Lock lock(*this);
    if (!context.fetched || context.settled) return;
    writes = !context.ended || context.ending_state != Context::Ending::recorded || again;
    to = context.kernel.applied + offsetof(PrefetchSwitch, ended);
  }
  // One that fails is tried again at the next launch.
  if (writes && !ok(driver_.write_value(stream, to, 1, CU_STREAM_WRITE_VALUE_DEFAULT))) return;
  {
    const Lock lock(*this);
    context.ended = true;
  }
  settle(context, stream, writes);
}

// Once the write is done, launches need no look any more. `written`: into this stream. What fails
// is tried again after another write; one thread at a time makes the event and records it.
void GraphSession::settle(Context& context, CUstream stream, bool written) {
  using Ending = Context::Ending;
  CUevent ending = nullptr;
  bool recorded = false;
  {
    const Lock lock(*this);
    recorded = context.ending_state == Ending::recorded;
    if (!recorded && (context.ending_state == Ending::claimed || !written)) return;
    if (!recorded) context.ending_state = Ending::claimed;
    ending = context.ending;
  }
  if (recorded) {
    if (driver_.query_event(ending) != CUDA_SUCCESS) return;
    const Lock lock(*this);
    context.settled = true;
    return update_needs();
  }
  // Events belong to one context, which must be the calling thread's.
  recorded = current_context() == context.kernel.context &&
             (ending != nullptr ||
              driver_.create_event(&ending, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS) &&
             driver_.record_event(ending, stream) == CUDA_SUCCESS;
  const Lock lock(*this);
  context.ending = ending;
  context.ending_state = recorded ? Ending::recorded : Ending::none;
}

bool GraphSession::must_look() const {
  return std::any_of(std::begin(contexts_), std::end(contexts_),
                     [&](const Context& context) {
                       return context.fetched && !context.settled &&
                              (context.unfollowed || is_off());
                     }) ||
         std::any_of(std::begin(executables_), std::end(executables_),
                     [](const Executable& executable) {
                       return executable.handle != nullptr && executable.stale &&
                              !executable.context->settled;
                     });
}

void GraphSession::update_needs() {
  if (!is_off()) return;
  Needs needs = Needs::nothing;
  for (const Graph& graph : graphs_) {
    if (graph.handle != nullptr) needs = Needs::changes;
  }
  for (const Executable& executable : executables_) {
    if (executable.handle != nullptr && !executable.shape.beside.empty()) needs = Needs::changes;
  }
  if (instantiations_ > 0) needs = Needs::changes;
  for (const Context& context : contexts_) {
    if (context.fetched && !context.settled) needs = Needs::all;
  }
  if (needs < needs_.load(std::memory_order_relaxed)) {
    needs_.store(needs, std::memory_order_relaxed);
  }
}

}  // namespace preserve::apply
