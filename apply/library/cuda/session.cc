// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/session.h"

#include <algorithm>

namespace preserve::apply {
namespace {

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
  const Lock lock(*this);
  set_off(off);
}

void GraphSession::set_off(Off off) {
  must_look_.store(true, std::memory_order_relaxed);
  if (!off_.exchange(true, std::memory_order_relaxed)) {
    header_.state = State::off;
    header_.off = off;
    header_.off_step = guard_.step();
    if (header_.decided_ns == 0) header_.decided_ns = clock_();
  }
  update_needs();
}

// --- tables --------------------------------------------------------------------------------------

GraphSession::Graph* GraphSession::find(CUgraph graph) {
  for (Graph& known : graphs_) {
    if (known.handle == graph) return &known;
  }
  return nullptr;
}
GraphSession::Executable* GraphSession::find(CUgraphExec executable) {
  for (Executable& known : std::span(executables_).first(used_executables_)) {
    if (known.handle == executable) return &known;
  }
  return nullptr;
}
GraphSession::Executable* GraphSession::free_executable() {
  if (Executable* given_up = find(static_cast<CUgraphExec>(nullptr))) return given_up;
  return used_executables_ == kMostExecutables ? nullptr : &executables_[used_executables_];
}
GraphSession::Context* GraphSession::context_of(const Graph& graph) {
  const CUcontext context =
      graph.added.kernel() == nullptr ? nullptr : graph.added.kernel()->context;
  return context == nullptr ? nullptr : find(context);
}

// The known graph, marked, or nullptr. Waits for a mark of another thread.
GraphSession::Graph* GraphSession::mark(CUgraph graph, Graph::Mark mark) {
  Graph* known = find(graph);
  while (known != nullptr && known->mark != Graph::Mark::none) {
    ::pthread_cond_wait(&unmarked_, &mutex_);
    known = find(graph);
  }
  if (known != nullptr) known->mark = mark;
  return known;
}
void GraphSession::unmark(Graph& graph) {
  graph.mark = Graph::Mark::none;
  ::pthread_cond_broadcast(&unmarked_);
}

// A free place for nodes of `handle`, marked. False: there is none.
bool GraphSession::change(Graph* graph, CUgraph handle) {
  if (graph == nullptr) return refuse(Refusal::no_memory);
  graph->handle = handle;
  graph->mark = Graph::Mark::changed;
  graph->frees = followed_.free_count();
  edited_.store(true, std::memory_order_relaxed);
  return true;
}
// Ends it: with its nodes, or with none.
void GraphSession::changed(Graph& graph, Refusal refusal) {
  if (refusal != Refusal::none) {
    graph.added.forget();
    graph.handle = nullptr;
  } else if (followed_.freed_since(graph.frees, graph.added.allocations())) {
    graph.added.set_stale();
  }
  unmark(graph);
  follow(graph.added.allocations());
  update_needs();
}

bool GraphSession::refuse(Refusal refusal) {
  ++header_.graphs.refused[static_cast<size_t>(refusal)];
  return false;
}

// Of these nobody knows when they are launched, or what they fetch from: no plan from now on.
void GraphSession::leave_unfollowed(Context* context, Off off) {
  if (context != nullptr) context->unfollowed = true;
  set_off(off);
}

// Some of the nodes may be there that were to be taken out again.
void GraphSession::failed(Context& context, const AddedNodes& added) {
  if (added.left()) context.unfollowed = true;
  set_off(Off::driver_failed);
}

void GraphSession::follow_memory(Executable& executable, const Graph& graph) {
  const auto all = graph.added.allocations();
  const AddedShape shape = graph.added.shape();
  executable.stale = graph.added.is_stale();
  if (executable.stale) must_look_.store(true, std::memory_order_relaxed);
  executable.allocations = {};
  executable.shape = {};
  if (!executable.memory.reserve(Scratch::bytes_of<CUdeviceptr>(all.size()) +
                                 Scratch::bytes_of<uint32_t>(shape.beside.size()))) {
    executable.stale = true;  // memory that cannot be followed is not fetched
    return set_off(Off::driver_failed);
  }
  executable.allocations = executable.memory.take<CUdeviceptr>(all.size());
  std::copy(all.begin(), all.end(), executable.allocations.begin());
  const std::span<uint32_t> beside = executable.memory.take<uint32_t>(shape.beside.size());
  std::copy(shape.beside.begin(), shape.beside.end(), beside.begin());
  executable.shape = {shape.own_nodes, beside};
}

void GraphSession::forget(Executable& executable) {
  if (hot_ == &executable) forget_hot();
  executable.memory.give_back();
  executable.handle = nullptr;
  executable.graph = nullptr;
  executable.context = nullptr;
  executable.launches = 0;
  executable.fetched_bytes = 0;
  executable.disabled = executable.stale = executable.retired = false;
  executable.shape = {};
  executable.allocations = {};
  update_needs();
}

void GraphSession::forget_hot() {
  hot_ = nullptr;
  lost_ = true;
  oldest_ = pending_count_ = 0;
  header_.state = is_off() ? State::off : State::searching;
}

// The nodes of this template go, and nobody names them any more.
void GraphSession::detach(CUgraph graph) {
  for (Executable& executable : executables_) {
    if (executable.handle == nullptr || executable.graph != graph) continue;
    executable.graph = nullptr;
    if (!executable.disabled) continue;
    executable.retired = true;
    if (hot_ == &executable) forget_hot();
  }
}

// --- graphs --------------------------------------------------------------------------------------

GraphSession::Instantiation GraphSession::instantiating(CUgraph graph, uint64_t flags) {
  Instantiation begun{flags};
  if (graph == nullptr) return begun;
  const Uncaptured uncaptured(driver_);
  bool may_match = ok(uncaptured.result());
  if (may_match) {  // before the nodes are there: its end must be told of, whatever turns the plan
                    // off
    const Lock lock(*this);
    may_match = !is_off();
    if (may_match) ++instantiations_;
  }
  begun.matched = may_match && prepare(graph, flags, begun.fetched_bytes);
  if (begun.matched) begun.flags |= CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  // A template that has our nodes from before gets its own shape back.
  if (!begun.matched || plan_.header().mode == Mode::original) take_out(graph);
  if (may_match && !begun.matched) {
    const Lock lock(*this);
    --instantiations_;
    update_needs();
  }
  return begun;
}

bool GraphSession::prepare(CUgraph graph, uint64_t flags, uint64_t& fetched_bytes) {
  const CUcontext current = current_context();
  Context* context = nullptr;
  {
    const Lock lock(*this);
    if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
      return refuse(Refusal::device_launch);
    }
    context = current == nullptr ? nullptr : find(current);
    while (context != nullptr && context->loading) {
      ::pthread_cond_wait(&unmarked_, &mutex_);
      context = find(current);
    }
    if (context == nullptr) return refuse(Refusal::no_module);
  }
  // What the program's own nodes need is not known; an instantiation that fails is the program's.
  size_t free_bytes = 0, total_bytes = 0;
  if (!ok(driver_.memory_info(&free_bytes, &total_bytes))) return false;
  {
    const Lock lock(*this);
    if (free_executable() == nullptr ||
        free_bytes < kSpareBytes + plan_.windows().size() * kNodeBytes) {
      return refuse(Refusal::no_memory);
    }
  }
  return edit(graph, *context, fetched_bytes);
}

bool GraphSession::edit(CUgraph graph, Context& context, uint64_t& fetched_bytes) {
  if (has_changed(graph)) take_out(graph);
  Graph* place = nullptr;
  bool known = false;
  {
    const Lock lock(*this);
    place = mark(graph, Graph::Mark::changed);
    known = place != nullptr;
    if (known) {
      place->frees = followed_.free_count();
    } else if (context.kernel.function == nullptr) {
      return refuse(context.refusal == Refusal::none ? Refusal::no_module : context.refusal);
    } else {
      place = find(static_cast<CUgraph>(nullptr));
      if (!change(place, graph)) return false;
    }
  }
  CUresult error = CUDA_SUCCESS;
  const Refusal refusal =
      known ? Refusal::none : editor_.edit(graph, context.kernel, place->added, error);
  const bool refreshed = !known || ok(editor_.refresh(place->added));
  const Lock lock(*this);
  if (refusal != Refusal::none) {
    (void)refuse(refusal);
    if (refusal == Refusal::failed) failed(context, place->added);
  } else if (!refreshed) {
    place->added.set_stale();
  } else {
    fetched_bytes = place->added.fetched_bytes();
    header_.graphs.missing_bytes = place->added.missing_bytes();
  }
  changed(*place, refusal);
  return refusal == Refusal::none && refreshed;
}

// Nodes that fetch nothing, where an executable graph has some that `graph` is to update.
bool GraphSession::edit(CUgraph graph, Context& context, const AddedShape& shape) {
  take_out(graph);
  Graph* place = nullptr;
  {
    const Lock lock(*this);
    place = find(static_cast<CUgraph>(nullptr));
    if (!change(place, graph)) return false;
  }
  CUresult error = CUDA_SUCCESS;
  const Refusal refusal = editor_.edit(graph, context.kernel, shape, place->added, error);
  const Lock lock(*this);
  if (refusal != Refusal::none) (void)refuse(refusal);
  if (refusal == Refusal::failed) failed(context, place->added);
  changed(*place, refusal);
  return refusal == Refusal::none;
}

// Nodes of the program's own were added to an edited graph, or taken out.
bool GraphSession::has_changed(CUgraph handle) {
  Graph* graph = nullptr;
  {
    const Lock lock(*this);
    graph = mark(handle, Graph::Mark::nodes_named);
    if (graph == nullptr) return false;
  }
  size_t nodes = 0;
  const bool counted = ok(driver_.graph_nodes(handle, nullptr, &nodes));
  const Lock lock(*this);
  const bool changed = counted && nodes != graph->added.nodes_then();
  unmark(*graph);
  return changed;
}

void GraphSession::take_out(CUgraph handle) {
  Graph* graph = nullptr;
  Context* context = nullptr;
  {
    const Lock lock(*this);
    graph = mark(handle, Graph::Mark::changed);
    if (graph == nullptr) return;
    context = context_of(*graph);
    detach(handle);
  }
  (void)ok(editor_.take_out(graph->added));
  const Lock lock(*this);
  if (graph->added.left()) leave_unfollowed(context, Off::driver_failed);
  graph->handle = nullptr;
  unmark(*graph);
  update_needs();
}

// The calling thread launches or updates it. A node is named by the one of the template, which must
// still be there. False: another thread is changing that, and it stays as it is.
bool GraphSession::disable(Executable& executable, bool disabled, bool waits) {
  Graph* graph = nullptr;
  CUgraphExec handle = nullptr;
  {
    const Lock lock(*this);
    if (executable.graph == nullptr || executable.disabled == disabled) return true;
    graph = find(executable.graph);
    if (graph != nullptr && graph->mark != Graph::Mark::none && !waits) return false;
    graph = mark(executable.graph, Graph::Mark::nodes_named);
    if (graph == nullptr) return true;
    if (executable.graph == nullptr) {  // it went meanwhile, and another has its address
      unmark(*graph);
      return true;
    }
    executable.disabled = disabled;
    handle = executable.handle;
  }
  for (const CUgraphNode node : graph->added.nodes()) {
    if (node != nullptr && !ok(driver_.set_enabled(handle, node, disabled ? 0 : 1))) break;
  }
  const Lock lock(*this);
  unmark(*graph);
  return true;
}

void GraphSession::copying(CUgraph graph) {
  if (!edited_.load(std::memory_order_relaxed) || graph == nullptr) return;
  const Uncaptured uncaptured(driver_);
  take_out(graph);
}

void GraphSession::instantiated(CUgraph graph, CUgraphExec executable, const Instantiation& begun,
                                bool done) {
  const CUcontext current = begun.matched ? current_context() : nullptr;
  {
    const Lock lock(*this);
    if (begun.matched) --instantiations_;
    // One that went without a word, as with its context.
    if (done && find(executable) != nullptr) forget(*find(executable));
    if (!begun.matched) return;
    if (done) return add(graph, executable, current, begun);
  }
  // It may have failed for our nodes: without them the program's next attempt is its own.
  const Uncaptured uncaptured(driver_);
  take_out(graph);
  turn_off(Off::driver_failed);
}

void GraphSession::add(CUgraph handle, CUgraphExec executable, CUcontext current,
                       const Instantiation& begun) {
  Graph* graph = mark(handle, Graph::Mark::changed);
  Executable* entry = free_executable();
  // The nodes may be there from an instantiation in another context, whose switch they read.
  Context* context = graph != nullptr     ? context_of(*graph)
                     : current != nullptr ? find(current)
                                          : nullptr;
  if (entry == nullptr || context == nullptr) {
    leave_unfollowed(graph != nullptr ? context : nullptr, Off::driver_failed);
  } else {
    if (entry == executables_ + used_executables_) ++used_executables_;
    entry->handle = executable;
    entry->graph = handle;
    entry->context = context;
    entry->fetched_bytes = begun.fetched_bytes;
    if (graph != nullptr) follow_memory(*entry, *graph);
    ++header_.graphs.edited;
    header_.rank = rank_;
    header_.graphs.nodes += graph == nullptr ? 0 : graph->added.nodes().size();
    header_.graphs.priorities =
        (begun.flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0 ? 1 : 0;
  }
  if (graph != nullptr) unmark(*graph);
  update_needs();
}

void GraphSession::updating(CUgraphExec executable, CUgraph graph) {
  if (executable == nullptr || graph == nullptr) return;
  Executable* known = nullptr;
  {
    const Lock lock(*this);
    known = find(executable);
    if (known == nullptr || known->shape.beside.empty()) return;
  }
  const Uncaptured uncaptured(driver_);
  (void)disable(*known, false, true);
  // The nodes must  be there although the plan may be off: the executable graph has them, and
  // without them the driver would refuse what it takes from the program alone.
  uint64_t fetched_bytes = 0;
  const bool edited = !is_off() && edit(graph, *known->context, fetched_bytes);
  {
    const Lock lock(*this);
    const Graph* place = find(graph);
    if (place != nullptr && place->added.shape() == known->shape) {
      if (edited) {
        known->fetched_bytes = fetched_bytes;
        return follow_memory(*known, *place);
      }
      known->stale = true;  // some of its nodes may have new addresses
      return must_look_.store(true, std::memory_order_relaxed);
    }
  }
  if (!edit(graph, *known->context, known->shape)) return;
  const Lock lock(*this);
  known->fetched_bytes = 0;
  if (const Graph* place = find(graph)) follow_memory(*known, *place);
  set_off(Off::graph_changes);
}

void GraphSession::updated(CUgraphExec executable, bool done) {
  const Lock lock(*this);
  Executable* known = done || executable == nullptr ? nullptr : find(executable);
  if (known == nullptr) return;
  known->stale = true;  // what it fetched from before is followed no more
  // It will be instantiated afresh, each time, with a look at all of it.
  set_off(Off::graph_changes);
}

void GraphSession::destroyed(CUgraphExec executable) {
  const Lock lock(*this);
  Executable* known = executable == nullptr ? nullptr : find(executable);
  if (known != nullptr) forget(*known);
}

void GraphSession::destroyed(CUgraph graph) {
  if (graph == nullptr) return;
  const Lock lock(*this);
  Graph* known = mark(graph, Graph::Mark::changed);
  detach(graph);
  if (known == nullptr) return;
  known->added.forget();
  known->handle = nullptr;
  unmark(*known);
  update_needs();
}

void GraphSession::destroyed(CUgraphNode node) {
  const Lock lock(*this);
  for (Graph& graph : graphs_) {
    // Not while another thread names it to the driver. A graph that is being changed is another.
    while (graph.mark == Graph::Mark::nodes_named &&
           std::count(graph.added.nodes().begin(), graph.added.nodes().end(), node) > 0) {
      ::pthread_cond_wait(&unmarked_, &mutex_);
    }
    if (graph.handle != nullptr && graph.mark != Graph::Mark::changed) graph.added.forget(node);
  }
}

}  // namespace preserve::apply
