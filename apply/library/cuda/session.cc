// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/session.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace preserve::apply {
namespace {

constexpr int kStartEdges = 12030;  // CUDA version
// Of the GPU's memory, that an instantiation with our nodes must find: what they need, about, and
// much more than that, since the program would see the error.
constexpr size_t kNodeBytes = 10'000, kSpareBytes = 64 << 20;

}  // namespace

GraphSession::GraphSession(const Surroundings& around)
    : driver_(around.driver),
      plan_(around.plan),
      header_(*around.header),
      rank_(around.rank),
      window_(*around.window),
      samples_(around.samples),
      image_(around.image),
      clock_(around.clock),
      editor_(around.driver, around.plan, around.names),
      guard_({around.plan.header().mode, around.plan.header().deadline_pairs,
              around.plan.header().control_every}) {
  header_.state = State::searching;
}

bool GraphSession::ok(CUresult result) {
  if (result != CUDA_SUCCESS) turn_off(Off::driver_failed);
  return result == CUDA_SUCCESS;
}

void GraphSession::turn_off(Off off) {
  must_look_.store(true, std::memory_order_relaxed);
  if (off_.exchange(true, std::memory_order_relaxed)) return;
  header_.state = State::off;
  header_.off = off;
  header_.off_step = guard_.step();
  if (header_.decided_ns == 0) header_.decided_ns = clock_();
}

// --- contexts and memory ------------------------------------------------------------------------

GraphSession::Context* GraphSession::find(CUcontext context) {
  for (Context& known : contexts_) {
    if (known.kernel.context == context) return &known;
  }
  return nullptr;
}

GraphSession::Context* GraphSession::current_context() {
  CUcontext current = nullptr;
  if (driver_.current_context(&current) != CUDA_SUCCESS || current == nullptr) return nullptr;
  return find(current);
}

void GraphSession::context_ready() {
  if (is_off()) return;  // every allocation comes by here
  CUcontext current = nullptr;
  const Lock lock(*this);
  if (is_off() || driver_.current_context(&current) != CUDA_SUCCESS || current == nullptr ||
      find(current) != nullptr) {
    return;
  }
  Context* context = find(static_cast<CUcontext>(nullptr));
  if (context == nullptr) return;
  context->kernel.context = current;
  const Uncaptured uncaptured(driver_);
  if (!ok(uncaptured.result())) return;
  PrefetchKernel& kernel = context->kernel;
  CUmodule module = nullptr;
  int greatest = 0, version = 0, cache_bytes = 0, processors = 0;
  if (!ok(driver_.version(&version)) || !ok(driver_.current_device(&kernel.device)) ||
      !ok(driver_.device_attribute(&cache_bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
                                   kernel.device)) ||
      !ok(driver_.device_attribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                   kernel.device))) {
    return;
  }
  // Retaining one that is there, as the current one is, changes nothing but a count.
  CUcontext primary = nullptr;
  unsigned flags = 0;
  int active = 0;
  if (!ok(driver_.primary_state(kernel.device, &flags, &active)) ||
      (active != 0 && (!ok(driver_.retain_primary(&primary, kernel.device)) ||
                       !ok(driver_.release_primary(kernel.device))))) {
    return;
  }
  context->primary = primary == current;
  if (static_cast<uint64_t>(cache_bytes) < plan_.header().budget_bytes) {
    context->refusal = Refusal::little_cache;
    return;
  }
  char name[48];
  std::snprintf(name, sizeof(name), "preserve_%s%s",
                kGraphFetchNames[static_cast<size_t>(plan_.header().fetch)].data(),
                plan_.header().kept != 0 ? "_kept" : "");
  CUfunction function = nullptr;
  const CUresult loaded = driver_.load_module(&module, image_);
  if (loaded == CUDA_ERROR_NO_BINARY_FOR_GPU || loaded == CUDA_ERROR_UNSUPPORTED_PTX_VERSION) {
    context->refusal = Refusal::no_module;  // an older GPU, perhaps beside others
    return;
  }
  if (!ok(loaded) || !ok(driver_.priority_range(&kernel.priority, &greatest)) ||
      !ok(driver_.module_function(&function, module, name)) ||
      !ok(driver_.allocate(&kernel.applied, sizeof(PrefetchSwitch))) ||
      !ok(driver_.fill(kernel.applied, 0, sizeof(PrefetchSwitch) / sizeof(uint32_t)))) {
    return;
  }
  kernel.has_start_edges = version >= kStartEdges;
  kernel.most_blocks = static_cast<uint32_t>(std::max(processors, 1));
  kernel.function = function;
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

// What it held goes with it: no call of the driver.
void GraphSession::destroyed(CUcontext context) {
  const Lock lock(*this);
  Context* known = context == nullptr ? nullptr : find(context);
  if (known == nullptr) return;
  for (Executable& executable : executables_) {
    if (executable.handle != nullptr && executable.context == known) forget(executable);
  }
  for (AddedNodes& added : graphs_) {
    if (added.graph() != nullptr && added.kernel() == &known->kernel) added.forget();
  }
  *known = {};
}

void GraphSession::freed(CUdeviceptr begin, uint64_t bytes) {
  if (!edited_.load(std::memory_order_relaxed)) return;
  const Lock lock(*this);
  const auto fetches = [&](std::span<const CUdeviceptr> all) {
    const auto first = std::lower_bound(all.begin(), all.end(), begin);
    return first != all.end() && *first - begin < bytes;
  };
  for (Executable& executable : executables_) {
    if (executable.handle == nullptr || !fetches(executable.allocations)) continue;
    executable.stale = true;
    must_look_.store(true, std::memory_order_relaxed);
  }
  for (AddedNodes& added : graphs_) {
    if (added.graph() != nullptr && fetches(added.allocations())) added.set_stale();
  }
}

// --- graphs --------------------------------------------------------------------------------------

AddedNodes* GraphSession::find(CUgraph graph) {
  for (AddedNodes& added : graphs_) {
    if (added.graph() == graph) return &added;
  }
  return nullptr;
}
GraphSession::Executable* GraphSession::find(CUgraphExec executable) {
  for (Executable& known : executables_) {
    if (known.handle == executable) return &known;
  }
  return nullptr;
}

// Of these nobody knows when they are launched, or what they fetch from: no plan from now on.
void GraphSession::leave_unfollowed(Context* context, Off off) {
  if (context != nullptr) context->unfollowed = true;
  turn_off(off);
}

bool GraphSession::edit(CUgraph graph, Context& context, uint64_t& fetched_bytes) {
  AddedNodes* added = find(graph);
  if (added != nullptr) {
    if (!ok(editor_.refresh(*added))) return false;
    fetched_bytes = added->fetched_bytes();
    return true;
  }
  added = find(static_cast<CUgraph>(nullptr));
  CUresult error = CUDA_SUCCESS;
  Refusal refusal = added == nullptr ? Refusal::no_memory : context.refusal;
  if (refusal == Refusal::none) {
    refusal = editor_.edit(graph, context.kernel, *added, error);
  }
  if (refusal != Refusal::none) {
    ++header_.graphs.refused[static_cast<size_t>(refusal)];
    // Some nodes may be there that could not be taken out again.
    if (refusal == Refusal::failed) leave_unfollowed(&context, Off::driver_failed);
    return false;
  }
  edited_.store(true, std::memory_order_relaxed);
  fetched_bytes = added->fetched_bytes();
  header_.graphs.missing_bytes = added->missing_bytes();
  return true;
}

GraphSession::Instantiation GraphSession::instantiating(CUgraph graph, uint64_t flags) {
  Instantiation begun{flags};
  const Lock lock(*this);
  if (graph == nullptr) return begun;
  const Uncaptured uncaptured(driver_);
  const bool matched =
      !is_off() && ok(uncaptured.result()) && prepare(graph, flags, begun.fetched_bytes);
  begun.matched = matched;
  if (matched) begun.flags |= CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  if (matched && plan_.header().mode != Mode::original) return begun;
  // A template that has our nodes from before gets its own shape back.
  if (AddedNodes* added = find(graph)) take_out(*added);
  return begun;
}

bool GraphSession::prepare(CUgraph graph, uint64_t flags, uint64_t& fetched_bytes) {
  const auto refuse = [&](Refusal refusal) {
    ++header_.graphs.refused[static_cast<size_t>(refusal)];
    return false;
  };
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
    return refuse(Refusal::device_launch);
  }
  Context* context = current_context();
  if (context == nullptr) return refuse(Refusal::no_module);
  // What the program's own nodes need is not known; an instantiation that fails is the program's.
  size_t free_bytes = 0, total_bytes = 0;
  if (!ok(driver_.memory_info(&free_bytes, &total_bytes))) return false;
  if (find(static_cast<CUgraphExec>(nullptr)) == nullptr ||
      free_bytes < kSpareBytes + plan_.windows().size() * kNodeBytes) {
    return refuse(Refusal::no_memory);
  }
  return edit(graph, *context, fetched_bytes);
}

void GraphSession::take_out(AddedNodes& added) {
  enable_all(added.graph());
  for (const CUgraphNode node : added.nodes()) {
    if (node == nullptr || ok(driver_.destroy_node(node))) continue;
    leave_unfollowed(find(added.kernel()->context), Off::driver_failed);
  }
  added.forget();
}

// While the template still names the nodes of its executable graphs.
void GraphSession::enable_all(CUgraph graph) {
  for (Executable& executable : executables_) {
    if (executable.handle == nullptr || executable.graph != graph) continue;
    disable(executable, false);
    executable.graph = nullptr;
  }
}

void GraphSession::copying(CUgraph graph) {
  if (!edited_.load(std::memory_order_relaxed)) return;
  const Lock lock(*this);
  AddedNodes* added = graph == nullptr ? nullptr : find(graph);
  if (added == nullptr) return;
  const Uncaptured uncaptured(driver_);
  take_out(*added);
}

void GraphSession::instantiated(CUgraph graph, CUgraphExec executable, const Instantiation& begun,
                                bool done) {
  const Lock lock(*this);
  // One that went without a word, as with its context.
  if (done && find(executable) != nullptr) forget(*find(executable));
  if (!begun.matched) return;
  const Uncaptured uncaptured(driver_);
  AddedNodes* added = find(graph);
  Executable* entry = find(static_cast<CUgraphExec>(nullptr));
  // The nodes may be there from an instantiation in another context, whose switch they read.
  Context* context = added == nullptr ? current_context() : find(added->kernel()->context);
  if (!done || entry == nullptr || context == nullptr) {
    // It may have failed for our nodes: without them the program's next attempt is its own.
    if (!done && added != nullptr) take_out(*added);
    if (done && added != nullptr) return leave_unfollowed(context, Off::driver_failed);
    return turn_off(Off::driver_failed);
  }
  entry->handle = executable;
  entry->graph = graph;
  entry->context = context;
  entry->fetched_bytes = begun.fetched_bytes;
  if (added != nullptr) follow_memory(*entry, *added);
  ++header_.graphs.edited;
  header_.rank = rank_;
  header_.graphs.nodes += added == nullptr ? 0 : added->nodes().size();
  header_.graphs.priorities =
      (begun.flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0 ? 1 : 0;
}

void GraphSession::follow_memory(Executable& executable, const AddedNodes& added) {
  const auto all = added.allocations();
  executable.stale = added.is_stale();
  if (executable.stale) must_look_.store(true, std::memory_order_relaxed);
  executable.allocations = {};
  if (all.empty()) return executable.memory.give_back();
  if (!executable.memory.reserve(Scratch::bytes_of<CUdeviceptr>(all.size()))) {
    executable.stale = true;  // memory that cannot be followed is not fetched
    return turn_off(Off::driver_failed);
  }
  executable.allocations = executable.memory.take<CUdeviceptr>(all.size());
  std::copy(all.begin(), all.end(), executable.allocations.begin());
}

void GraphSession::updating(CUgraphExec executable, CUgraph graph) {
  const Lock lock(*this);
  Executable* known = find(executable);
  if (known == nullptr || executable == nullptr || graph == nullptr) return;
  const Uncaptured uncaptured(driver_);
  disable(*known, false);
  // The nodes must be added although the plan may be off: the executable graph has them.
  if (plan_.header().mode == Mode::original) return;
  if (edit(graph, *known->context, known->fetched_bytes))
    return follow_memory(*known, *find(graph));
  if (find(graph) != nullptr) known->stale = true;  // some of its nodes may have new addresses
}

void GraphSession::updated(CUgraphExec executable, bool done) {
  const Lock lock(*this);
  Executable* known = done || executable == nullptr ? nullptr : find(executable);
  if (known == nullptr) return;
  known->stale = true;  // what it fetched from before is followed no more
  // It will be instantiated afresh, each time, with a look at all of it.
  turn_off(Off::graph_changes);
}

// A node is named by the one of the template, so that must still be there.
void GraphSession::disable(Executable& executable, bool disabled) {
  const AddedNodes* added = executable.graph == nullptr ? nullptr : find(executable.graph);
  if (added == nullptr || executable.disabled == disabled) return;
  executable.disabled = disabled;
  for (const CUgraphNode node : added->nodes()) {
    if (node == nullptr) continue;
    if (!ok(driver_.set_enabled(executable.handle, node, disabled ? 0 : 1))) return;
  }
}

void GraphSession::forget(Executable& executable) {
  if (hot_ == &executable) {
    hot_ = nullptr;
    lost_ = true;
    oldest_ = pending_count_ = 0;
    header_.state = is_off() ? State::off : State::searching;
  }
  executable.memory.give_back();
  executable.handle = nullptr;
  executable.graph = nullptr;
  executable.context = nullptr;
  executable.launches = 0;
  executable.fetched_bytes = 0;
  executable.disabled = executable.stale = false;
  executable.allocations = {};
}

void GraphSession::destroyed(CUgraphExec executable) {
  const Lock lock(*this);
  Executable* known = executable == nullptr ? nullptr : find(executable);
  if (known != nullptr) forget(*known);
}

void GraphSession::destroyed(CUgraph graph) {
  const Lock lock(*this);
  if (graph == nullptr) return;
  if (AddedNodes* known = find(graph)) {
    const Uncaptured uncaptured(driver_);
    enable_all(graph);
    known->forget();
  }
  for (Executable& executable : executables_) {
    if (executable.graph == graph) executable.graph = nullptr;
  }
}

void GraphSession::destroyed(CUgraphNode node) {
  const Lock lock(*this);
  for (AddedNodes& added : graphs_) added.forget(node);
}

}  // namespace preserve::apply
