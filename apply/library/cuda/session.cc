// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/session.h"

#include <cstdio>
#include <mutex>

namespace preserve::apply {
namespace {

constexpr int kStartEdges = 12030;  // CUDA version
constexpr double kNsPerMs = 1e6;

}  // namespace

// The calls around which this is held long, those that make or change graphs, are rare.
class GraphSession::Lock {
 public:
  explicit Lock(GraphSession& session) : mutex_(&session.mutex_), taken_(true) {
    ::pthread_mutex_lock(mutex_);
  }
  // Nobody waits on the way to a launch.
  Lock(GraphSession& session, std::try_to_lock_t)
      : mutex_(&session.mutex_), taken_(::pthread_mutex_trylock(mutex_) == 0) {}
  ~Lock() {
    if (taken_) ::pthread_mutex_unlock(mutex_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool taken() const { return taken_; }

 private:
  pthread_mutex_t* mutex_;
  const bool taken_;
};

GraphSession::GraphSession(const Surroundings& around)
    : driver_(around.driver),
      plan_(around.plan),
      header_(*around.header),
      rank_(around.rank),
      window_(*around.window),
      samples_(around.samples),
      image_(around.image),
      clock_(around.clock),
      exchanges_(around.exchanges),
      editor_(around.driver, around.plan),
      guard_({around.plan.header().mode, around.plan.header().deadline_pairs,
              around.plan.header().control_every}) {
  header_.state = State::searching;
}

bool GraphSession::ok(CUresult result) {
  if (result != CUDA_SUCCESS) turn_off(Off::driver_failed);
  return result == CUDA_SUCCESS;
}

void GraphSession::turn_off(Off off) {
  if (off_.exchange(true, std::memory_order_relaxed)) return;
  header_.state = State::off;
  header_.off = off;
  header_.off_step = guard_.step();
  if (header_.decided_ns == 0) header_.decided_ns = clock_();
}

GraphSession::Context* GraphSession::current_context() {
  CUcontext current = nullptr;
  if (driver_.current_context(&current) != CUDA_SUCCESS || current == nullptr) return nullptr;
  for (size_t i = 0; i < context_count_; ++i) {
    if (contexts_[i].kernel.context == current) return &contexts_[i];
  }
  if (context_count_ == kMostContexts) return nullptr;
  Context& context = contexts_[context_count_++];
  context.kernel.context = current;
  return &context;
}

void GraphSession::context_ready() {
  const Lock lock(*this);
  if (is_off()) return;
  const size_t known = context_count_;
  Context* context = current_context();
  if (context == nullptr || context_count_ == known) return;
  const Uncaptured uncaptured(driver_);
  if (!ok(uncaptured.result())) return;
  PrefetchKernel& kernel = context->kernel;
  CUmodule module = nullptr;
  int greatest = 0, version = 0;
  char name[48];
  std::snprintf(name, sizeof(name), "preserve_%s%s",
                kGraphFetchNames[static_cast<size_t>(plan_.header().fetch)].data(),
                plan_.header().kept != 0 ? "_kept" : "");
  CUfunction function = nullptr;
  if (!ok(driver_.version(&version)) || !ok(driver_.priority_range(&kernel.priority, &greatest)) ||
      !ok(driver_.load_module(&module, image_)) ||
      !ok(driver_.module_function(&function, module, name)) ||
      !ok(driver_.allocate(&kernel.applied, sizeof(uint32_t))) ||
      !ok(driver_.fill(kernel.applied, 0, 1))) {
    return;
  }
  kernel.has_start_edges = version >= kStartEdges;
  kernel.function = function;
}

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

bool GraphSession::edit(CUgraph graph, const Context& context, uint64_t& fetched_bytes) {
  AddedNodes* added = find(graph);
  if (added != nullptr) {
    if (!ok(editor_.refresh(*added))) return false;
    fetched_bytes = added->fetched_bytes();
    return true;
  }
  added = find(static_cast<CUgraph>(nullptr));
  CUresult error = CUDA_SUCCESS;
  const Refusal refusal =
      added == nullptr ? Refusal::no_memory : editor_.edit(graph, context.kernel, *added, error);
  if (refusal != Refusal::none) {
    ++header_.graphs.refused[static_cast<size_t>(refusal)];
    if (refusal == Refusal::failed) turn_off(Off::driver_failed);
    return false;
  }
  fetched_bytes = added->fetched_bytes();
  header_.graphs.missing_bytes = added->missing_bytes();
  return true;
}

GraphSession::Instantiation GraphSession::instantiating(CUgraph graph, uint64_t flags) {
  Instantiation begun{flags};
  const Lock lock(*this);
  if (is_off()) return begun;
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
    ++header_.graphs.refused[static_cast<size_t>(Refusal::device_launch)];
    return begun;
  }
  const Uncaptured uncaptured(driver_);
  Context* context = ok(uncaptured.result()) ? current_context() : nullptr;
  if (context == nullptr) return begun;
  // Of the first graph of the plan alone, since it costs the graph's memory a second time. Without
  // memory for two the arm original has our nodes, switched off.
  if (exchanges_ && !has_plain_ && find(graph) == nullptr &&
      editor_.check(graph) == Refusal::none) {
    has_plain_ = driver_.instantiate(&begun.plain, graph, flags) == CUDA_SUCCESS;
    if (!has_plain_) begun.plain = nullptr;
  }
  begun.matched = edit(graph, *context, begun.fetched_bytes);
  if (begun.matched) begun.flags |= CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  if (begun.matched && plan_.header().mode == Mode::original) take_out(*find(graph));
  return begun;
}

void GraphSession::take_out(AddedNodes& added) {
  for (const CUgraphNode node : added.nodes()) (void)ok(driver_.destroy_node(node));
  added.forget();
}

void GraphSession::instantiated(CUgraph graph, CUgraphExec executable, const Instantiation& begun,
                                bool done) {
  if (!begun.matched && begun.plain == nullptr) return;
  const Lock lock(*this);
  const Uncaptured uncaptured(driver_);
  Executable* entry = find(static_cast<CUgraphExec>(nullptr));
  if (!done || !begun.matched || entry == nullptr) {
    if (begun.plain != nullptr) (void)driver_.destroy_exec(begun.plain);
    has_plain_ = has_plain_ && begun.plain == nullptr;
    AddedNodes* added = done ? nullptr : find(graph);
    // It may have failed for our nodes: without them the program's next attempt is its own.
    if (added != nullptr) take_out(*added);
    if (!done) turn_off(Off::driver_failed);
    return;
  }
  const AddedNodes* added = find(graph);
  *entry = {executable, begun.plain, current_context(), 0, begun.fetched_bytes};
  header_.graphs.plain = has_plain_ ? 1 : 0;
  ++header_.graphs.edited;
  header_.rank = rank_;
  header_.graphs.nodes += added == nullptr ? 0 : added->nodes().size();
  header_.graphs.priorities =
      (begun.flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0 ? 1 : 0;
}

void GraphSession::updating(CUgraphExec executable, CUgraph graph) {
  const Lock lock(*this);
  Executable* known = find(executable);
  if (known == nullptr) return;
  const Uncaptured uncaptured(driver_);
  if (known->plain != nullptr) {
    // While the graph is still the program's own; one that was edited before is not.
    CUgraphExecUpdateResultInfo info{};
    if (find(graph) != nullptr || driver_.update_exec(known->plain, graph, &info) != CUDA_SUCCESS) {
      drop_plain(*known);
    }
  }
  // The nodes must be added although the plan may be off: the executable graph has them.
  if (plan_.header().mode == Mode::original || known->context == nullptr) return;
  (void)edit(graph, *known->context, known->fetched_bytes);
}

void GraphSession::updated(CUgraphExec executable, bool done) {
  const Lock lock(*this);
  if (done || find(executable) == nullptr) return;
  // It will be instantiated afresh, each time, with a look at all of it.
  turn_off(Off::graph_changes);
}

void GraphSession::drop_plain(Executable& executable) {
  if (executable.plain == nullptr) return;
  (void)driver_.destroy_exec(executable.plain);
  executable.plain = nullptr;
  has_plain_ = false;
  header_.graphs.plain = 0;
}

void GraphSession::changed(CUgraphExec executable) {
  const Lock lock(*this);
  Executable* known = find(executable);
  if (known == nullptr) return;
  const Uncaptured uncaptured(driver_);
  drop_plain(*known);
}

void GraphSession::destroyed(CUgraphExec executable) {
  const Lock lock(*this);
  Executable* known = find(executable);
  if (known == nullptr) return;
  const Uncaptured uncaptured(driver_);
  drop_plain(*known);
  if (hot_ == known) {
    hot_ = nullptr;
    lost_ = true;
    header_.state = is_off() ? State::off : State::searching;
  }
  *known = {};
}

void GraphSession::destroyed(CUgraph graph) {
  const Lock lock(*this);
  AddedNodes* known = find(graph);
  if (known != nullptr) known->forget();
}

void GraphSession::destroyed(CUgraphNode node) {
  const Lock lock(*this);
  for (AddedNodes& added : graphs_) added.forget(node);
}

// --- launches ------------------------------------------------------------------------------------

// Events belong to one context.
bool GraphSession::make_hot(Executable& executable) {
  if (events_of_ != nullptr && events_of_ != executable.context) return false;
  events_of_ = executable.context;
  for (Pending& pending : pending_) {
    if (pending.begin != nullptr) continue;
    if (!ok(driver_.create_event(&pending.begin, CU_EVENT_DEFAULT)) ||
        !ok(driver_.create_event(&pending.end, CU_EVENT_DEFAULT))) {
      return false;
    }
  }
  hot_ = &executable;
  ++header_.locks;
  header_.locked_ns = clock_();
  update_state();
  return true;
}

bool GraphSession::set_switch(Context& context, CUstream stream, bool applied) {
  if (context.applied == applied || context.kernel.applied == 0) return true;
  context.applied = applied;
  return ok(driver_.write_value(stream, context.kernel.applied, applied ? 1 : 0,
                                CU_STREAM_WRITE_VALUE_DEFAULT));
}

GraphSession::Launch GraphSession::launching(CUgraphExec executable, CUstream stream) {
  const Launch as_it_is{executable, false};
  const Lock lock(*this, std::try_to_lock);
  Executable* known = lock.taken() ? find(executable) : nullptr;
  if (known == nullptr || known->context == nullptr) return as_it_is;
  const Uncaptured uncaptured(driver_);
  CUstreamCaptureStatus capture{};
  if (!ok(uncaptured.result())) return as_it_is;
  const CUresult asked = driver_.is_capturing(stream, &capture);
  // The legacy stream cannot be asked while others are captured.
  if (asked == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return as_it_is;
  if (!ok(asked)) return as_it_is;
  if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
    ++header_.graphs.refused[static_cast<size_t>(Refusal::capturing)];
    return as_it_is;
  }
  collect();
  ++known->launches;
  if (!is_off() && hot_ == nullptr && known->launches >= kHotLaunches) make_hot(*known);
  if (is_off()) {
    (void)set_switch(*known->context, stream, false);
    return {known->plain != nullptr ? known->plain : executable, false};
  }
  if (hot_ != known) return as_it_is;
  if (lost_ && pending_count_ == 0) lose();
  if (lost_ || pending_count_ == kMostPending) {
    lost_ = true;
    ++header_.graphs.unpaired;
    return as_it_is;
  }
  const Arm arm =
      place_of(next_step_, guard_.decision(), plan_.header().mode, plan_.header().control_every)
          .arm;
  if (!begin(*known, stream, arm)) return as_it_is;
  return {arm == Arm::original && known->plain != nullptr ? known->plain : executable, true};
}

bool GraphSession::begin(Executable& executable, CUstream stream, Arm arm) {
  Pending& pending = pending_[(oldest_ + pending_count_) % kMostPending];
  pending.arm = arm;
  return set_switch(*executable.context, stream, arm == Arm::applied) &&
         ok(driver_.record_event(pending.begin, stream));
}

void GraphSession::launched(CUstream stream, bool done) {
  const Lock lock(*this);
  if (is_off()) {
    lost_ = true;
    return;
  }
  const Uncaptured uncaptured(driver_);
  Pending& pending = pending_[(oldest_ + pending_count_) % kMostPending];
  if (!done || !ok(driver_.record_event(pending.end, stream))) {
    lost_ = true;
    return;
  }
  ++pending_count_;
  ++next_step_;
}

// The times of the launches that are over, in order.
void GraphSession::collect() {
  while (pending_count_ > 0 && !is_off()) {
    const Pending& pending = pending_[oldest_];
    const CUresult over = driver_.query_event(pending.end);
    if (over == CUDA_ERROR_NOT_READY) return;
    float ms = 0;
    if (!ok(over) || !ok(driver_.elapsed_ms(&ms, pending.begin, pending.end))) return;
    oldest_ = (oldest_ + 1) % kMostPending;
    --pending_count_;
    end_step(pending.arm, ms * kNsPerMs, hot_ == nullptr ? 0 : hot_->fetched_bytes);
  }
}

void GraphSession::end_step(Arm arm, double dur_ns, uint64_t fetched_bytes) {
  if (lost_) return;
  if (guard_.begin() != arm) {  // a decision that does not wait has changed the arms ahead
    lost_ = true;
    return;
  }
  const uint32_t step = guard_.step();
  const Guard::Ended ended = guard_.end(dur_ns, 0);
  if (header_.samples < samples_.size()) {
    samples_[header_.samples] = {static_cast<uint64_t>(dur_ns), step, arm, 0, 0};
  }
  ++header_.samples;
  if (arm == Arm::applied) {
    ++window_.opened;
    window_.fetched_bytes += fetched_bytes;
    header_.fetched_bytes += fetched_bytes;
  }
  for (size_t i = 0; i < kArms; ++i) {
    header_.steps[i] = guard_.steps()[i];
    header_.disturbed[i] = guard_.disturbed()[i];
  }
  if (ended.pair) {
    for (uint64_t i = header_.samples - kPairSteps; i < header_.samples; ++i) {
      if (i < samples_.size()) samples_[i].counted = 1;
    }
    header_.null = guard_.null();
    header_.applied = guard_.applied();
    header_.control = guard_.control();
  }
  if (ended.decision) header_.decided_ns = clock_();
  update_state();
}

// The pair that was begun does not count, and the next launch begins another one.
void GraphSession::lose() {
  guard_.lose();
  next_step_ = guard_.step();
  lost_ = false;
}

void GraphSession::update_state() {
  const Decision& decision = guard_.decision();
  if (guard_.is_off()) return turn_off(decision.off);
  if (decision.state == State::on && decision.from_step <= guard_.step()) {
    header_.state = State::on;
    header_.off_step = decision.from_step;
  } else if (!is_off()) {
    header_.state = State::measuring;
  }
}

}  // namespace preserve::apply
