// SPDX-License-Identifier: Apache-2.0
// The CUDA graphs of one process under a plan: edits each before it is instantiated, chooses the
// arm of each launch of the one that runs most, takes the times by events, and turns the plan off
// when the guard says so or when any call of ours fails. Graphs of other contexts follow its arms.
// Knows neither CUPTI nor a clock of its own. Calls come from any thread of the program; a launch
// that finds another call inside goes on at once.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "apply/control/guard.h"
#include "apply/library/cuda/editor.h"
#include "apply/outcome_file.h"

namespace preserve::apply {

class GraphSession {
 public:
  struct Surroundings {
    const Driver& driver;
    const GraphPlanView& plan;
    const Tensors& names;   // that the plan knows
    OutcomeHeader* header;  // says that this process is no rank, until it has a graph of the plan
    int32_t rank;           // that it is then
    WindowOutcome* window;  // all windows as one
    std::span<StepSample> samples;
    const void* image;  // of the prefetch kernels, as cuModuleLoadData takes it
    int64_t (*clock)();
  };
  explicit GraphSession(const Surroundings& around);

  // The calling thread has a context: loads the kernels into it, once. Never during a capture.
  void context_ready();
  // The one that a device's users share was given up by one of them, or `reset`, which destroys it.
  void primary_given_up(CUdevice device, bool reset);
  // It is about to be destroyed, with all graphs in it.
  void destroyed(CUcontext context);
  // Memory of the GPU, from the beginning of an allocation on, is about to be freed or unmapped.
  void freed(CUdeviceptr begin, uint64_t bytes);

  // A graph is about to be instantiated.
  struct Instantiation {
    uint64_t flags;  // that should be used
    bool matched = false;
    uint64_t fetched_bytes = 0;
  };
  Instantiation instantiating(CUgraph graph, uint64_t flags);
  // `begun`: with the flags that were used.
  void instantiated(CUgraph graph, CUgraphExec executable, const Instantiation& begun, bool done);
  // cuGraphExecUpdate begins and ends.
  void updating(CUgraphExec executable, CUgraph graph);
  void updated(CUgraphExec executable, bool done);
  // A copy of it is about to be made: a clone, or a part of another graph.
  void copying(CUgraph graph);
  void destroyed(CUgraphExec executable);
  void destroyed(CUgraph graph);
  void destroyed(CUgraphNode node);  // of a graph

  // Whether launched() is wanted.
  bool launching(CUgraphExec executable, CUstream stream);
  void launched(CUgraphExec executable, CUstream stream, bool done);

  bool is_off() const { return off_.load(std::memory_order_relaxed); }
  void turn_off(Off off);

 private:
  static constexpr size_t kMostContexts = 16, kMostGraphs = 256, kMostExecutables = 512;
  static constexpr uint32_t kHotLaunches = 8;
  // Fewer than a decision's notice, so that it reaches the arms that are chosen ahead.
  static constexpr uint32_t kMostPending = kNoticeSteps - 2;

  struct Context {
    PrefetchKernel kernel;            // its context is nullptr: free
    Refusal refusal = Refusal::none;  // of all its graphs
    bool primary = false;             // of its device
    bool applied = false;             // what was written to the switch last
    bool fetched = false;             // whether it ever was true
    bool ended = false;               // a write that ends its fetches for good is under way
    bool unfollowed = false;          // nodes of ours are in graphs that nobody follows
    CUevent begin[kMostPending] = {}, end[kMostPending] = {};  // once they are needed
  };
  struct Executable {
    CUgraphExec handle = nullptr;  // nullptr: free
    CUgraph graph = nullptr;       // it was made of; nullptr: destroyed
    Context* context = nullptr;
    uint32_t launches = 0;
    uint64_t fetched_bytes = 0;
    bool disabled = false;  // its nodes of ours
    bool stale = false;     // it fetches from memory that was freed
    Scratch memory;
    std::span<CUdeviceptr> allocations;  // that it fetches from, ascending
  };
  // The calls around which this is held long, those that make or change graphs, are rare.
  class Lock {
   public:
    explicit Lock(GraphSession& session) : mutex_(&session.mutex_), taken_(true) {
      ::pthread_mutex_lock(mutex_);
    }
    // Nobody waits on the way to a launch, unless there is a reason.
    Lock(GraphSession& session, bool waits)
        : mutex_(&session.mutex_),
          taken_((waits ? ::pthread_mutex_lock(mutex_) : ::pthread_mutex_trylock(mutex_)) == 0) {}
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

  Context* find(CUcontext context);
  Context* current_context();
  AddedNodes* find(CUgraph graph);
  Executable* find(CUgraphExec executable);
  // Whether it has the plan's nodes now.
  bool prepare(CUgraph graph, uint64_t flags, uint64_t& fetched_bytes);
  bool edit(CUgraph graph, Context& context, uint64_t& fetched_bytes);
  void take_out(AddedNodes& added);
  void enable_all(CUgraph graph);
  void leave_unfollowed(Context* context, Off off);
  void follow_memory(Executable& executable, const AddedNodes& added);
  void disable(Executable& executable, bool disabled);
  void forget(Executable& executable);
  bool make_hot(Executable& executable);
  bool begin(Executable& executable, CUstream stream, Arm arm);
  bool set_switch(Context& context, CUstream stream, bool applied);
  void end_fetches(Context& context, CUstream stream, bool again);
  bool must_look() const;
  void collect();
  void end_step(Arm arm, double dur_ns, uint64_t fetched_bytes);
  void lose();
  void update_state();
  bool ok(CUresult result);

  const Driver& driver_;
  const GraphPlanView& plan_;
  OutcomeHeader& header_;
  const int32_t rank_;
  WindowOutcome& window_;
  const std::span<StepSample> samples_;
  const void* image_;
  int64_t (*const clock_)();
  Editor editor_;
  Guard guard_;

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<bool> off_{false};
  // The next launch must be looked at, if need be waited for: fetches may have to end.
  std::atomic<bool> must_look_{false};
  std::atomic<bool> edited_{false};  // any graph, ever
  Context contexts_[kMostContexts];
  AddedNodes graphs_[kMostGraphs];
  Executable executables_[kMostExecutables];
  Executable* hot_ = nullptr;
  bool applied_ = false;            // the arm that it is in
  Arm pending_[kMostPending] = {};  // launches of it that may not be over
  uint32_t oldest_ = 0, pending_count_ = 0;
  uint32_t next_step_ = 0;  // as the guard will count it
  bool lost_ = false;       // some launches were not measured
};

}  // namespace preserve::apply
