// SPDX-License-Identifier: Apache-2.0
// Windows that can be changed in one run of the referee: what a change at one of them does to the
// step can be told from what one at another does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "planner/search/amounts.h"

namespace preserve {

class WindowsApart {
 public:
  // The ring must outlive it.
  explicit WindowsApart(const WindowRing& ring) : ring_(ring) {}

  // Windows over which the bytes of this one are held, itself included.
  static size_t reach(const WindowRing& ring, const Amounts& amounts, size_t window);

  // Changes of this plan follow; begin_run() before those of each run.
  void begin(const Amounts& amounts);
  void begin_run() { beside_.assign(reach_.size(), Beside::nothing); }
  // The bytes of the window are held over none that the run changes, nor theirs over it. Of a
  // change that moves bytes to a neighbour the neighbour is not asked about: what seemed to help
  // together is confirmed by the whole step.
  bool is_apart(size_t window) const;
  void occupy(size_t window);

 private:
  // What a window is in a run: untouched, held over by the bytes of a change, or itself changed.
  enum class Beside : uint8_t { nothing, held, changed };

  const WindowRing& ring_;
  std::vector<size_t> reach_;   // by window: the following ones that are no longer apart
  std::vector<Beside> beside_;  // by window
};

}  // namespace preserve
