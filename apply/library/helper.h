// SPDX-License-Identifier: Apache-2.0
// A thread on an idle core that fetches in place of the one that waits. Neither waits for the
// other: a window is posted and taken back by one store each.
#pragma once

#include <atomic>
#include <cstdint>

#include "apply/library/board.h"
#include "apply/library/fetcher.h"
#include "apply/outcome_file.h"

namespace preserve::apply {

class Helper {
 public:
  // All must live on, for ever: the thread does not end before it is told to.
  Helper(const PlanView& plan, Tensors& tensors, Board& board, Clock clock);

  // From the thread that will post. Off::none when the thread runs; makes system calls.
  Off start();
  void stop();  // soon

  // The window `index` of the plan is open. By one thread at a time.
  void post(uint32_t index);
  // It is not any more; the bytes of it that had been fetched.
  uint64_t take_back();

 private:
  static void* run(void* helper);
  void work();
  bool move_to_idle_core() const;

  const PlanView& plan_;
  Board& board_;
  const Clock clock_;
  Fetcher fetcher_;  // the thread's
  uint64_t number_ = 0;
  std::atomic<uint64_t> posted_{0};   // number << 32 | window + 1; no window: number << 32
  std::atomic<uint64_t> fetched_{0};  // (number, its low 24 bits) << 40 | bytes
  std::atomic<bool> quit_{false};
};

}  // namespace preserve::apply
