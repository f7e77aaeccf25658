// SPDX-License-Identifier: Apache-2.0
// The search's changes at all periods of a step at once.
#include "planner/search/search.h"

namespace preserve {

namespace {

constexpr int kMostRounds = 4;
constexpr int64_t kRefine = 4;

}  // namespace

SearchResult PlanSearch::improve_periods(SearchResult from) {
  const size_t period = ring_.period();
  if (period == 0 || from.amounts.empty()) return from;
  best_ = from;
  runs_left_ = most_runs();
  exactly_ = false;
  judged_ = evaluate(best_.amounts);
  Judged confirmed = judged_;
  moves_ = usual_moves();
  for (const Change change : {Change::gather, Change::spread}) moves_.push_back({change});
  for (int i = 0; i < kMostRounds; ++i) {
    const int64_t begun = adopted_;
    for (int64_t blocks = largest_change(); blocks >= least_blocks_; blocks /= kRefine) {
      try_periods(period, blocks);
    }
    // What was kept at a glance, from the recorded step on.
    judged_ = evaluate(best_.amounts);
    best_.step_ns = judged_.step_ns;
    if (!is_shorter(best_, from) || judged_.late_bytes > confirmed.late_bytes) return from;
    from = best_;
    confirmed = judged_;
    if (adopted_ == begun) break;
  }
  return from;
}

// Each move at the windows that have the same place in their periods, all in one run.
void PlanSearch::try_periods(size_t period, int64_t blocks) {
  int64_t begun = -1;  // no plan
  for (size_t move = 0; move < moves_.size(); ++move) {
    for (size_t place = 0; place < period && runs_left_ > 0; ++place) {
      begin_run(begun);
      bool any = false;
      for (size_t window = place; window < changed_.size(); window += period) {
        any = apply(move, window, blocks).has_value() || any;
      }
      if (any) adopt_if_good(is_fewer(moves_[move].change), trial_, glance(trial_));
    }
  }
}

}  // namespace preserve
