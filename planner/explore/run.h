// SPDX-License-Identifier: Apache-2.0
// Evaluates the cells of a sweep that have no result yet, on all cores of this process and on all
// ranks. In rounds: every rank takes its share of the next cells, works on it until the time of the
// round is over, and rank 0 writes what all of them finished in one transaction; the rest is dealt
// out again. So a slow rank delays nobody, and what is lost when it is killed is a round.
#pragma once

#include <cstdint>
#include <functional>

#include "db/explore/cells.h"
#include "planner/explore/results.h"
#include "replay/ranks/group.h"

namespace preserve {

struct RunOptions {
  int threads = 1;  // of this rank
  int64_t round_ns = 500'000'000;
  std::function<ExploreCell(int64_t id)> evaluate;  // from several threads at once
  // On rank 0, after each round: cells that have a result, and how many this run made.
  std::function<void(int64_t finished, int64_t made)> progress{};
  std::function<bool()> stop{};  // asked on every rank, once per round
};

// `results` on rank 0 alone, nullptr on the others; `cells` of the whole sweep. False when it was
// stopped. What `evaluate` throws comes out on the rank that evaluated.
bool run_cells(const Ranks& ranks, ExploreResults* results, int64_t cells,
               const RunOptions& options);

}  // namespace preserve
