// SPDX-License-Identifier: Apache-2.0
// The CUDA graphs of one process under a plan: edits each before it is instantiated, chooses the
// arm of each launch of the one that runs most, takes the times by events, and turns the plan off
// when the guard says so or when any call of ours fails. Graphs of other contexts follow its arms.
// Knows neither CUPTI nor a clock of its own.
//
// Calls come from any thread of the program, and the driver may keep one waiting until another has
// launched what the GPUs wait for. So no lock is held around a call of the driver: the lock guards
// tables, a graph whose nodes are being changed is marked, and a launch that finds what it needs
// taken goes on unmeasured. Only who destroys, copies or changes a graph waits for the mark on that
// graph, as the nodes that another thread names to the driver must not go meanwhile, and who
// instantiates one for its context.
//
// An executable graph is named to the driver only by a thread on which the program itself launches
// or updates it: any other could find it destroyed, or being launched. So one whose nodes are
// disabled when its template goes stays as it is, and is measured no more.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

#include "apply/control/guard.h"
#include "apply/library/cuda/editor.h"
#include "apply/library/cuda/followed_memory.h"
#include "apply/outcome_file.h"
#include "common/no_copy.h"

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
  void destroyed(CUgreenCtx context);
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

  // Of which calls of the program this must still be told. Never more than before.
  enum class Needs : uint8_t {
    nothing,
    changes,  // of graphs: nodes that do nothing are still in some
    all
  };
  Needs needs() const { return needs_.load(std::memory_order_relaxed); }

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
    bool loading = false;             // what was not found is not known yet
    bool ended = false;               // a write that ends its fetches for good is under way
    CUevent ending = nullptr;         // after that write
    enum class Ending : uint8_t { none, claimed, recorded } ending_state = Ending::none;
    bool settled = false;     // it is done
    bool unfollowed = false;  // nodes of ours are in graphs that nobody follows
    CUevent begin[kMostPending] = {}, end[kMostPending] = {};  // once they are needed
  };
  struct Graph {
    CUgraph handle = nullptr;  // nullptr: free
    enum class Mark : uint8_t { none, nodes_named, changed } mark = Mark::none;
    uint64_t frees = 0;  // before it was changed
    AddedNodes added;    // who sets the mark has it alone; with nodes_named all may read it
  };
  struct Executable {
    CUgraphExec handle = nullptr;  // nullptr: free
    CUgraph graph = nullptr;       // it was made of; nullptr: destroyed
    Context* context = nullptr;
    uint32_t launches = 0;
    uint64_t fetched_bytes = 0;
    bool disabled = false;  // its nodes of ours
    bool stale = false;     // it fetches from memory that was freed
    bool retired = false;   // its nodes could not be enabled again
    Scratch memory;
    AddedShape shape;                    // of its nodes of ours
    std::span<CUdeviceptr> allocations;  // that it fetches from, ascending
  };
  // Of the tables. Never held around a call of the driver.
  class Lock : NoCopy {
   public:
    explicit Lock(GraphSession& session) : mutex_(&session.mutex_), taken_(true) {
      ::pthread_mutex_lock(mutex_);
    }
    // The first one of a launch is only tried, unless fetches may have to end. The others, of a
    // launch that is measured or follows, are waited for: each is held for a look at the tables.
    Lock(GraphSession& session, bool waits)
        : mutex_(&session.mutex_),
          taken_((waits ? ::pthread_mutex_lock(mutex_) : ::pthread_mutex_trylock(mutex_)) == 0) {}
    ~Lock() {
      if (taken_) ::pthread_mutex_unlock(mutex_);
    }
    bool taken() const { return taken_; }

   private:
    pthread_mutex_t* mutex_;
    const bool taken_;
  };

  // Without the lock.
  CUcontext current_context() const;
  bool load(Context& context);
  bool prepare(CUgraph graph, uint64_t flags, uint64_t& fetched_bytes);
  bool edit(CUgraph graph, Context& context, uint64_t& fetched_bytes);
  bool edit(CUgraph graph, Context& context, const AddedShape& shape);
  bool has_changed(CUgraph graph);
  void take_out(CUgraph graph);
  bool disable(Executable& executable, bool disabled, bool waits);
  bool launching(Executable& executable, Context& context, CUstream stream);
  bool measure(Executable& executable, Context& context, CUstream stream, bool first);
  bool make_events(Context& context);
  void collect(Executable& executable, Context& context);
  bool begin(Executable& executable, Context& context, CUstream stream, uint32_t place, Arm arm);
  bool follow_arm(Context& context, CUstream stream, std::optional<bool> chosen);
  void end_fetches(Context& context, CUstream stream, bool again);
  void settle(Context& context, CUstream stream, bool written);
  bool ok(CUresult result);

  // With the lock.
  Context* find(CUcontext context);
  Context* context_of(const Graph& graph);
  Graph* find(CUgraph graph);
  Executable* find(CUgraphExec executable);
  Executable* free_executable();
  Graph* mark(CUgraph graph, Graph::Mark mark);
  bool change(Graph* graph, CUgraph handle);
  void changed(Graph& graph, Refusal refusal);
  void unmark(Graph& graph);
  void add(CUgraph handle, CUgraphExec executable, CUcontext current, const Instantiation& begun);
  bool refuse(Refusal refusal);
  void leave_unfollowed(Context* context, Off off);
  void failed(Context& context, const AddedNodes& added);
  void follow_memory(Executable& executable, const Graph& graph);
  void follow(std::span<const CUdeviceptr> allocations);
  void forget(Executable& executable);
  void forget_hot();
  void detach(CUgraph graph);
  bool must_look() const;
  void locked(const Executable& executable);
  Arm arm_of(uint32_t step) const;
  void end_step(Arm arm, double dur_ns, uint64_t fetched_bytes);
  void lose();
  void update_state();
  void update_needs();
  void set_off(Off off);

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
  pthread_cond_t unmarked_ = PTHREAD_COND_INITIALIZER;
  std::atomic<bool> off_{false};
  std::atomic<Needs> needs_{Needs::all};
  // The next launch must be looked at, if need be waited for: fetches may have to end.
  std::atomic<bool> must_look_{false};
  std::atomic<bool> edited_{false};  // any graph, ever
  Context contexts_[kMostContexts];
  Graph graphs_[kMostGraphs];
  Executable executables_[kMostExecutables];
  size_t used_executables_ = 0;  // none of those from here on ever was
  size_t instantiations_ = 0;    // of graphs of the plan, under way
  FollowedMemory followed_;
  Executable* hot_ = nullptr;
  Executable* launching_ = nullptr;  // between launching() and launched()
  bool measuring_ = false;           // that launch
  bool applied_ = false;             // the arm that `hot_` was launched in last
  Arm pending_[kMostPending] = {};   // launches of it that may not be over
  uint32_t oldest_ = 0, pending_count_ = 0;
  uint32_t next_step_ = 0;  // as the guard will count it
  bool lost_ = false;       // some launches were not measured
};

}  // namespace preserve::apply
