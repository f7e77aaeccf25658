// SPDX-License-Identifier: Apache-2.0
// From a good plan to one that no single change betters under the referee. One run of the referee
// tries a change at each of many windows whose effects lie apart: between two of them the time
// tells what the first has gained. docs/planning.md.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/referee/simulator.h"
#include "planner/search/amounts.h"
#include "planner/search/apart.h"
#include "planner/search/changes.h"

namespace preserve {

struct SearchResult {
  Amounts amounts;
  double step_ns = 0;  // by the referee, the windows' fixed costs included
  // The single changes that were tried last, and the most that one of them would still save.
  int64_t changes = 0;
  double most_saved_ns = 0;
  bool complete = false;  // every single change was among them
};

inline bool is_shorter(const SearchResult& a, const SearchResult& b) {
  return a.step_ns < b.step_ns;
}

class PlanSearch {
 public:
  // The references must outlive the search.
  PlanSearch(Referee& referee, const WindowRing& ring, const PlanLimits& limits);

  // The plan within the budget, without shares below the smallest, cut to what arrives in time.
  SearchResult judge(Amounts amounts);
  // Improves what judge() returned.
  SearchResult improve(SearchResult from);
  // Improves it by changes that all periods of the step make at once: layers are alike, and where
  // each of them would lose by a change, all of them together may gain by several. A step without
  // periods stays as it is.
  SearchResult improve_periods(SearchResult from);
  // Fills each window for each consumer, whatever else changes by it, and improves the best of
  // these plans, until none is better: larger changes than the single ones, for small steps.
  SearchResult refill(SearchResult from);
  // Tries every single change by itself until none helps: exact, for small steps.
  SearchResult settle(SearchResult from);

 private:
  // How a sweep tries its changes.
  enum class Sweep { many_at_once, alone };
  // What a plan does to the step, window by window.
  struct Judged {
    double step_ns = 0;       // fixed costs included
    double last_step_ns = 0;  // without them, of the repetition that opened_ns is from
    double late_bytes = 0;    // asked for beyond what a plan may ask in vain
    std::vector<double> opened_ns;
  };
  // A change at one window, and at the one after it if that takes part.
  struct Tried {
    size_t move = 0;  // index into moves_
    size_t first = 0, second = 0;
    double saved_ns = 0;
  };

  Judged evaluate(const Amounts& amounts);
  Judged glance(const Amounts& amounts);
  Judged described(const Referee::Steady& run);
  void cut_to_arrived(Amounts& amounts) const;
  static double region_ns(const Judged& judged, size_t from, size_t to);
  double fixed_ns(const Amounts& amounts, const Tried& one) const;
  std::vector<size_t> windows_near_changes(int64_t since) const;

  void adopt(const Amounts& amounts, Judged judged);
  std::vector<Move> every_move() const;
  bool adopt_if_good(bool fewer, const Amounts& amounts, Judged judged);
  std::optional<Tried> apply(size_t move, size_t window, int64_t blocks);
  void begin_run(int64_t& begun);
  void try_windows(size_t first_move, size_t end_move, int64_t blocks,
                   const std::vector<size_t>& windows);
  void try_together(int64_t blocks, const Amounts& trial, std::vector<Tried> tried);
  void try_periods(size_t period, int64_t blocks);
  void try_alone(size_t move, const Amounts& trial);
  void sweep(int64_t blocks, std::vector<Move>& moves, int64_t since);
  bool is_confirmed(double before_ns);
  int64_t largest_change() const;
  int64_t most_runs() const;
  void sweep_until_nothing_helps(int64_t largest);
  bool drop_what_is_late();

  Referee& referee_;
  const WindowRing& ring_;
  double window_cost_ns_ = 0;
  Changes changes_;
  WindowsApart apart_;
  int64_t least_blocks_ = 1;
  double negligible_ns_ = 0, worth_ns_ = 0, worth_again_ns_ = 0, worth_at_last_ns_ = 0;
  int64_t runs_left_ = 0, adopted_ = 0;
  std::vector<int64_t> changed_;  // by window: adopted_ when its bytes last changed
  std::vector<Move> moves_;       // of the sweep, and what each has saved
  std::vector<double> moves_saved_ns_;
  Sweep how_ = Sweep::many_at_once;
  bool exactly_ = true;  // glances run the repetition in which other bytes are fetched ahead
  Amounts trial_;
  std::vector<uint8_t> in_run_;  // by window: a change of this run takes from it or adds to it
  PrefetchOrders orders_;
  std::vector<WindowRing::Owner> owners_;
  std::vector<double> arrived_bytes_;  // of orders_

  SearchResult best_;
  Judged judged_;  // best_
};

}  // namespace preserve
