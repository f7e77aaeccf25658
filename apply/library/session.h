// SPDX-License-Identifier: Apache-2.0
// One MPI rank under a plan: follows its collectives, opens a window in those that the plan names,
// counts and times. Knows neither MPI nor a clock of its own. Calls come from any thread of the
// program; collectives of several threads at once are a surprise, never a wait.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "apply/control/guard.h"
#include "apply/control/recogniser.h"
#include "apply/library/board.h"
#include "apply/library/fetcher.h"
#include "apply/library/helper.h"
#include "apply/library/tensors.h"
#include "apply/outcome_file.h"

namespace preserve::apply {

// What calls this process's turn() while the program waits.
struct Engine {
  Off (*attach)() = nullptr;  // Off::none when it did
  void (*detach)() = nullptr;
};

// Where a rank keeps what it has to say.
struct OutcomeMemory {
  OutcomeHeader* header = nullptr;
  std::span<WindowOutcome> windows{};
  std::span<TensorOutcome> tensors{};
  std::span<StepSample> samples{};
};

class Session {
 public:
  struct Surroundings {
    const PlanView& plan;
    Tensors& tensors;
    const OutcomeMemory& outcome;  // copied; its header names the rank
    Board& board;
    Clock clock;
    Engine engine;
    Helper* helper;              // with a plan via `spare`, whose engine starts it
    std::span<uint32_t> memory;  // for a Recogniser
  };
  explicit Session(const Surroundings& around);

  // Of a blocking allreduce: what is to be done with it, the same on all ranks.
  enum Way : uint64_t {
    as_it_is,
    note,    // as it is; from the probe on it may be converted
    probe,   // ask probed() first, then as it is
    convert  // to a non-blocking one, with turn() between looks at it
  };
  // A collective begins on this thread: blocking, or leaving a request. Returns its mark; of a
  // blocking one its Way.
  uint64_t began(const Collective& collective, uint32_t thread, bool blocking);
  void ended(uint32_t ranks);  // a blocking one
  // What all ranks found out together on data of their own about the collectives noted, one each of
  // a kind.
  struct Probed {
    bool same_bits = false;                    // both ways
    bool progress = false;                     // every rank has a progress engine
    double blocking_ns = 0, converted_ns = 0;  // all of them
    int kinds = 1;                             // that can be converted at all
  };
  void probed(const Probed& found);
  bool has_progress() const { return attached_; }
  void failed() { board_.failed.store(true); }  // a call in place of the program's
  void issued(uint64_t mark, const void* request);
  void completed(uint64_t mark, uint32_t ranks);  // in whatever call that was found
  void lost(uint64_t mark);
  // A call that waits for requests; `request` nullptr: for several.
  void wait_began(const void* request);
  void wait_ended();
  void message() { messages_.store(true, std::memory_order_relaxed); }  // point-to-point
  void ending();                                                        // MPI_Finalize, MPI_Abort

  // One turn of the progress engine, on the thread that made it. Any session's.
  static void turn() {
    if (Fetcher* window = open_window) window->turn();
  }
  static void forget_window() { open_window = nullptr; }  // in a child after fork

 private:
  struct Pending {
    uint64_t mark = 0;  // 0: free
    const void* request = nullptr;
  };
  class Busy;

  bool is_followed(const Collective& collective);
  void lock();
  void settle();
  void stay_unconverted(Off why);
  void begin_step();
  void end_step(int64_t now_ns);
  void lose(Surprise surprise);
  void heed_board();
  void turn_off(Off off, uint32_t from_step);
  void update_state();
  void open(uint32_t window);
  void close();
  void wait_link(uint32_t ranks);
  Pending* find_pending(const void* request);
  void drop(Pending& pending);

  // A load of the thread's own; the library is loaded with the program.
  static thread_local Fetcher* open_window __attribute__((tls_model("initial-exec")));

  const PlanView& plan_;
  Tensors& tensors_;
  const OutcomeMemory outcome_;
  Board& board_;
  const Clock clock_;
  const Engine engine_;
  const int64_t link_latency_ns_;
  const Via wanted_;
  Helper* const helper_;
  Recogniser recogniser_;
  Guard guard_;
  Fetcher fetcher_;

  std::atomic<bool> busy_{false}, interfered_{false}, messages_{false}, off_{false};
  uint32_t owner_ = 0;  // thread whose collectives are followed
  // Whether to convert all ranks must decide alike, and in which arm they are. So as long as that
  // may happen the collectives of one communicator alone are followed: their sequence is the same
  // on all its ranks.
  std::atomic<bool> alone_{false};
  uint32_t settling_ = 0;  // steps until all ranks know of each other
  std::atomic<bool> ready_told_{false};
  bool converts_ = false;
  Off refused_ = Off::none;  // by the engine
  bool attached_ = false, running_ = false, leads_ = false, asked_ = false;
  Arm arm_ = Arm::original;
  int64_t step_begin_ns_ = 0;
  double fetch_ns_ = 0;                   // in this step
  uint32_t next_window_ = 0;              // of the plan, in this step
  std::atomic<bool> window_open_{false};  // on some thread
  uint32_t window_ = 0;                   // that one
  static constexpr size_t kPending = 16;
  Pending pending_[kPending];
  std::atomic<uint32_t> pending_count_{0};
};

}  // namespace preserve::apply
