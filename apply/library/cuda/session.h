// SPDX-License-Identifier: Apache-2.0
// The CUDA graphs of one process under a plan: edits each before it is instantiated, chooses the
// arm of each launch of the one that runs most, takes the times by events, and turns the plan off
// when the guard says so or when any call of ours fails. Knows neither CUPTI nor a clock of its
// own. Calls come from any thread of the program; one that finds another inside goes on at once.
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
    OutcomeHeader* header;  // says that this process is no rank, until it has a graph of the plan
    int32_t rank;           // that it is then
    WindowOutcome* window;  // all windows as one
    std::span<StepSample> samples;
    const void* image;  // of the prefetch kernels, as cuModuleLoadData takes it
    int64_t (*clock)();
    // Whether what instantiating() and launching() return is heeded.
    bool exchanges;
  };
  explicit GraphSession(const Surroundings& around);

  // The calling thread has a context: loads the kernels into it, once. Never during a capture.
  void context_ready();

  // A graph is about to be instantiated.
  struct Instantiation {
    uint64_t flags;  // that should be used
    bool matched = false;
    CUgraphExec plain = nullptr;
    uint64_t fetched_bytes = 0;
  };
  Instantiation instantiating(CUgraph graph, uint64_t flags);
  // `begun`: with the flags that were used.
  void instantiated(CUgraph graph, CUgraphExec executable, const Instantiation& begun, bool done);
  // cuGraphExecUpdate begins and ends.
  void updating(CUgraphExec executable, CUgraph graph);
  void updated(CUgraphExec executable, bool done);
  // Any other call that changes an executable graph.
  void changed(CUgraphExec executable);
  void destroyed(CUgraphExec executable);
  void destroyed(CUgraph graph);
  void destroyed(CUgraphNode node);  // of a graph

  struct Launch {
    CUgraphExec executable;  // that should be launched
    bool measured;           // launched() is wanted
  };
  Launch launching(CUgraphExec executable, CUstream stream);
  void launched(CUstream stream, bool done);

  bool is_off() const { return off_.load(std::memory_order_relaxed); }
  void turn_off(Off off);

 private:
  static constexpr size_t kMostContexts = 16, kMostGraphs = 256, kMostExecutables = 512;
  static constexpr uint32_t kHotLaunches = 8;
  // Fewer than a decision's notice, so that it reaches the arms that are chosen ahead.
  static constexpr uint32_t kMostPending = kNoticeSteps - 2;

  struct Context {
    PrefetchKernel kernel;
    bool applied = false;  // what was written to the switch last
  };
  struct Executable {
    CUgraphExec handle = nullptr;  // nullptr: free
    CUgraphExec plain = nullptr;   // without our nodes; nullptr: none
    Context* context = nullptr;
    uint32_t launches = 0;
    uint64_t fetched_bytes = 0;
  };
  struct Pending {
    CUevent begin = nullptr, end = nullptr;
    Arm arm = Arm::original;
  };
  class Lock;

  Context* current_context();
  AddedNodes* find(CUgraph graph);
  Executable* find(CUgraphExec executable);
  // Whether it has the plan's nodes now.
  bool edit(CUgraph graph, const Context& context, uint64_t& fetched_bytes);
  void take_out(AddedNodes& added);
  void drop_plain(Executable& executable);
  bool make_hot(Executable& executable);
  bool begin(Executable& executable, CUstream stream, Arm arm);
  bool set_switch(Context& context, CUstream stream, bool applied);
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
  const bool exchanges_;
  Editor editor_;
  Guard guard_;

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<bool> off_{false};
  Context contexts_[kMostContexts];
  size_t context_count_ = 0;
  AddedNodes graphs_[kMostGraphs];
  Executable executables_[kMostExecutables];
  bool has_plain_ = false;  // some executable graph has
  Executable* hot_ = nullptr;
  Pending pending_[kMostPending];
  const Context* events_of_ = nullptr;
  uint32_t oldest_ = 0, pending_count_ = 0;
  uint32_t next_step_ = 0;  // as the guard will count it
  bool lost_ = false;       // some launches were not measured
};

}  // namespace preserve::apply
