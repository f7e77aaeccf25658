// SPDX-License-Identifier: Apache-2.0
// Ticks of a spool -> ns of CLOCK_MONOTONIC: linear between neighbouring anchors, so that neither a
// wrong nominal frequency nor slow drift matters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

class TickClock {
 public:
  // `anchors` in any order; those that contradict the others or no machine could have been up for
  // are left out.
  struct Anchor {
    uint64_t ticks;
    int64_t ns;
  };
  TickClock(spool::Clock kind, std::vector<Anchor> anchors);

  // Nothing for a moment far outside the recording: a damaged record.
  std::optional<int64_t> ns(uint64_t ticks) const;
  size_t impossible_anchors() const { return impossible_; }
  int64_t first_ns() const { return anchors_.front().ns; }
  int64_t last_ns() const { return anchors_.back().ns; }

 private:
  spool::Clock kind_;
  std::vector<Anchor> anchors_;
  size_t impossible_ = 0;
  mutable size_t hint_ = 0;  // records come in order: the last segment is nearly always right
  double ns_per_tick_ = 1;   // over all anchors
};

}  // namespace preserve
