// SPDX-License-Identifier: Apache-2.0
// A plan as numbers: how many blocks each window fetches for which consumer. Which bytes these are
// follows: a consumer's windows, in the order in which they open, take its slices from the head on.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/referee/prefetch_stream.h"
#include "planner/schedule/schedule.h"

namespace preserve {

struct Share {
  int32_t consumer = 0;  // index into PlanProblem::consumers
  int64_t blocks = 0;    // > 0

  bool operator==(const Share&) const = default;
};
using WindowShares = std::vector<Share>;    // in the order of reading, a consumer once
using Amounts = std::vector<WindowShares>;  // per window of a ring

// Where shares can be: the windows and the consumers of a step, in order on the ring of operators.
class WindowRing {
 public:
  // `windows`: ordinals, ascending. The problem must outlive the ring.
  WindowRing(const FoldedStep& step, const PlanProblem& problem, std::vector<int32_t> windows);

  const std::vector<int32_t>& windows() const { return windows_; }
  const PlanProblem& problem() const { return problem_; }
  int64_t operators() const { return static_cast<int64_t>(step_.ops.size()); }
  size_t next(size_t window) const { return window + 1 == windows_.size() ? 0 : window + 1; }
  size_t previous(size_t window) const { return (window == 0 ? windows_.size() : window) - 1; }

  // Operators from the window to the consumer or to another window, a whole step to itself.
  int64_t distance(size_t window, int32_t consumer) const;
  int64_t distance_to_window(size_t from, size_t to) const;
  // Windows after which the step repeats itself, for three quarters of them at least: as many
  // operators from each to the next, and as much to fetch for the first reader after it. 0: it does
  // not.
  size_t period() const;
  // The consumer that is read first after the window has opened.
  int32_t first_consumer_after(size_t window) const { return first_consumer_[window]; }

  Amounts amounts_of(const std::vector<PlannedWindow>& windows) const;
  // What the windows at these operators fetch. internal_error when the ring lacks one that fetches.
  Amounts placed(const std::vector<int32_t>& windows, Amounts amounts) const;
  // The orders; `owners`, where wanted: per prefetch its window and the place of its share.
  struct Owner {
    uint32_t window = 0, share = 0;
  };
  PrefetchOrders orders_of(const Amounts& amounts, std::vector<Owner>* owners = nullptr) const;
  // With names, lengths and used bytes, nothing else.
  std::vector<PlannedWindow> planned_windows(const Amounts& amounts) const;

 private:
  int64_t ahead(int32_t from, int32_t to) const;
  size_t window_at(int32_t ordinal) const;

  const FoldedStep& step_;
  const PlanProblem& problem_;
  std::vector<int32_t> windows_;
  std::vector<int32_t> first_consumer_;
};

// The blocks of `shares` for `consumer` become more (or fewer) by `blocks`; a share of 0 goes.
void add_blocks(WindowShares& shares, const WindowRing& ring, size_t window, int32_t consumer,
                int64_t blocks);

}  // namespace preserve
