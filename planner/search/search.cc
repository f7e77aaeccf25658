// SPDX-License-Identifier: Apache-2.0
#include "planner/search/search.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/as_index.h"

namespace preserve {

namespace {

// Operators simulated in a search: a bound on the work, reached only by large steps. Half of the
// runs are left for the changes by the smallest amount.
constexpr int64_t kMostOperators = 600'000;
constexpr int64_t kFewestRuns = 12;
constexpr int64_t kMostRuns = 1000;
constexpr int64_t kMostRunsAlone = 10'000;

// Of steps up to this size it is not assumed that what is fetched for the next step arrives.
constexpr int64_t kMostOpsExactly = 64;

// A plan asks for at most this much of what the referee sees arrive in time. Cutting what is late
// lets later prefetches begin earlier, so it is looked at again, a few times.
constexpr double kMostAsked = 1.05;
constexpr int kMostCuts = 6;

// Of the step: what is rounding; what all windows together must save by a change to be worth asking
// for more, and to try that change once more; what the changes of one run by the smallest amount
// must save together to be worth another look at all that lies near them.
constexpr double kNegligible = 1e-7;
constexpr double kWorth = 3e-5;
constexpr double kWorthAgain = 1e-4;
constexpr double kWorthAtLast = 2e-5;

// Changes begin with this share of the largest window and become smaller by a factor. What helps is
// tried again with more: a window may have far to go by steps that gain little each.
constexpr int64_t kLargestChange = 2;
constexpr int64_t kRefine = 8;
constexpr int64_t kRefineAtOnce = 4;
constexpr int64_t kMoreAgain = 4;
constexpr size_t kMostShares = 4;  // of a window, from either end, that are changed at many at once
constexpr int kMostSweeps = 4;
constexpr int kMostLastSweeps = 24;
constexpr int64_t kNever = -1;

}  // namespace

PlanSearch::PlanSearch(Referee& referee, const WindowRing& ring, const PlanLimits& limits)
    : referee_(referee),
      ring_(ring),
      window_cost_ns_(static_cast<double>(limits.window_cost_ns)),
      changes_(ring, limits),
      apart_(ring),
      least_blocks_(changes_.least_blocks()),
      negligible_ns_(kNegligible * referee.baseline_step_ns()),
      worth_ns_(kWorth * referee.baseline_step_ns() /
                static_cast<double>(std::max<size_t>(1, ring.windows().size()))),
      worth_again_ns_(kWorthAgain / kMoreAgain * referee.baseline_step_ns()),
      worth_at_last_ns_(kWorthAtLast * referee.baseline_step_ns()),
      changed_(ring.windows().size(), 0) {}

// --- judging -------------------------------------------------------------------------------------

PlanSearch::Judged PlanSearch::evaluate(const Amounts& amounts) {
  orders_ = ring_.orders_of(amounts, &owners_);
  return described(referee_.run(orders_));
}

// To see where a change may help.
PlanSearch::Judged PlanSearch::glance(const Amounts& amounts) {
  orders_ = ring_.orders_of(amounts, &owners_);
  return described(referee_.glance(orders_, exactly_));
}

PlanSearch::Judged PlanSearch::described(const Referee::Steady& run) {
  --runs_left_;
  arrived_bytes_ = run.last->arrived_bytes;
  Judged judged;
  for (size_t i = 0; i < orders_.prefetches.size(); ++i) {
    const Prefetch& prefetch = orders_.prefetches[i];
    // The block in which the arrival ends is no waste.
    const double asked_bytes = static_cast<double>(prefetch.end - prefetch.begin - kBlockBytes);
    judged.late_bytes += std::max(0.0, asked_bytes - kMostAsked * arrived_bytes_[i]);
  }
  judged.last_step_ns = run.last->step_ns;
  judged.step_ns = run.step_ns + window_cost_ns_ * static_cast<double>(orders_.windows.size());
  judged.opened_ns.reserve(ring_.windows().size());
  for (const int32_t window : ring_.windows()) {
    judged.opened_ns.push_back(run.last->ops[as_index(window)].start_ns);
  }
  return judged;
}

// Takes from the plan that was evaluated last what came too late.
void PlanSearch::cut_to_arrived(Amounts& amounts) const {
  for (size_t i = 0; i < owners_.size(); ++i) {
    const Prefetch& prefetch = orders_.prefetches[i];
    const double late_bytes =
        static_cast<double>(prefetch.end - prefetch.begin) - arrived_bytes_[i];
    amounts[owners_[i].window][owners_[i].share].blocks -=
        std::llround(std::floor(late_bytes / double{kBlockBytes}));
  }
  changes_.drop_small(amounts);
}

SearchResult PlanSearch::judge(Amounts amounts) {
  changes_.drop_small(amounts);
  changes_.keep_to_budget(amounts);
  Judged judged = evaluate(amounts);
  for (int i = 0; i < kMostCuts; ++i) {
    Amounts cut = amounts;
    cut_to_arrived(cut);
    if (cut == amounts) break;
    Judged found = evaluate(cut);
    if (judged.late_bytes <= 0 && found.step_ns > judged.step_ns) break;
    amounts = std::move(cut);
    judged = std::move(found);
  }
  SearchResult result;
  result.step_ns = judged.step_ns;
  result.amounts = std::move(amounts);
  return result;
}

// --- many at once --------------------------------------------------------------------------------

// Time from the opening of one window to that of another, over the end of the step if need be.
double PlanSearch::region_ns(const Judged& judged, size_t from, size_t to) {
  const double ns = judged.opened_ns[to] - judged.opened_ns[from];
  return to > from ? ns : ns + judged.last_step_ns;
}

// All windows, or those that a change after `since` may concern.
std::vector<size_t> PlanSearch::windows_near_changes(int64_t since) const {
  const size_t count = changed_.size();
  std::vector<uint8_t> near(count, since == kNever ? 1 : 0);
  if (since != kNever) {
    size_t around = 1;
    for (size_t window = 0; window < count; ++window) {
      around = std::max(around, WindowsApart::reach(ring_, best_.amounts, window));
    }
    for (size_t window = 0; window < count; ++window) {
      if (changed_[window] <= since) continue;
      size_t i = (window + count - std::min(around, count)) % count;
      for (size_t k = 0; k <= 2 * around && k < count + around; ++k, i = ring_.next(i)) near[i] = 1;
    }
  }
  std::vector<size_t> windows;
  for (size_t window = 0; window < count; ++window) {
    if (near[window] != 0) windows.push_back(window);
  }
  return windows;
}

void PlanSearch::adopt(const Amounts& amounts, Judged judged) {
  ++adopted_;
  for (size_t window = 0; window < amounts.size(); ++window) {
    if (amounts[window] != best_.amounts[window]) changed_[window] = adopted_;
  }
  best_.amounts = amounts;
  best_.step_ns = judged.step_ns;
  judged_ = std::move(judged);
}

// Fewer blocks need save nothing, but not more than rounding may be lost.
bool PlanSearch::adopt_if_good(bool fewer, const Amounts& amounts, Judged judged) {
  const double least_ns = fewer ? -negligible_ns_ : negligible_ns_;
  if (best_.step_ns - judged.step_ns < least_ns) return false;
  if (judged.late_bytes > judged_.late_bytes) return false;
  adopt(amounts, std::move(judged));
  return true;
}

// Nothing where the change is not possible, or concerns a window that another of the run changes.
std::optional<PlanSearch::Tried> PlanSearch::apply(size_t move, size_t window, int64_t blocks) {
  const Change change = moves_[move].change;
  const bool back = change == Change::earlier || change == Change::gather;
  const bool two = back || change == Change::later || change == Change::spread;
  Tried one{move, back ? ring_.previous(window) : window, 0, 0};
  one.second = two ? ring_.next(one.first) : one.first;
  const bool taken = in_run_[one.first] != 0 || in_run_[one.second] != 0;
  if (taken || !changes_.apply(moves_[move], window, blocks, trial_)) return {};
  in_run_[one.first] = in_run_[one.second] = 1;
  return one;
}

// What follows are changes of the best plan.
void PlanSearch::begin_run(int64_t& begun) {
  if (begun == adopted_) {
    changes_.begin_again();
  } else {
    changes_.begin(best_.amounts);
    apart_.begin(best_.amounts);
    begun = adopted_;
  }
  trial_ = best_.amounts;
  apart_.begin_run();
  in_run_.assign(changed_.size(), 0);
}

// Each of the moves at each of the windows; in one run as many windows as lie apart, those that
// were tried least first. Where one leaves no room for another, that one is tried later.
void PlanSearch::try_windows(size_t first_move, size_t end_move, int64_t blocks,
                             const std::vector<size_t>& windows) {
  const size_t moves = end_move - first_move;
  std::vector<uint8_t> open(windows.size() * moves, 1);
  std::vector<size_t> times(windows.size(), 0), order(windows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  int64_t begun = kNever;
  for (;;) {
    if (runs_left_ <= 0) {
      best_.complete = false;
      return;
    }
    begin_run(begun);
    std::vector<Tried> tried;
    for (const size_t w : order) {
      if (how_ == Sweep::alone ? !tried.empty() : !apart_.is_apart(windows[w])) continue;
      for (size_t m = 0; m < moves; ++m) {
        uint8_t& still = open[w * moves + m];
        if (still == 0) continue;
        const std::optional<Tried> one = apply(first_move + m, windows[w], blocks);
        if (one || tried.empty()) still = 0;
        if (!one) continue;
        tried.push_back(*one);
        apart_.occupy(windows[w]);
        ++times[w];
        break;
      }
    }
    if (tried.empty()) return;
    best_.changes += static_cast<int64_t>(tried.size());
    if (how_ == Sweep::alone) {
      try_alone(tried.front().move, trial_);
    } else {
      std::sort(tried.begin(), tried.end(),
                [](const Tried& a, const Tried& b) { return a.first < b.first; });
      try_together(blocks, trial_, std::move(tried));
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return times[a] < times[b]; });
    }
  }
}

void PlanSearch::try_alone(size_t move, const Amounts& trial) {
  Judged judged = evaluate(trial);
  const double saved_ns = best_.step_ns - judged.step_ns;
  const bool in_time = judged.late_bytes <= judged_.late_bytes;
  if (adopt_if_good(is_fewer(moves_[move].change), trial, std::move(judged))) {
    moves_saved_ns_[move] = worth_again_ns_;
  } else if (in_time) {
    best_.most_saved_ns = std::max(best_.most_saved_ns, saved_ns);
  }
}

void PlanSearch::try_together(int64_t blocks, const Amounts& trial, std::vector<Tried> tried) {
  Judged judged = glance(trial);
  for (size_t i = 0; i < tried.size(); ++i) {
    Tried& one = tried[i];
    const size_t until = tried[i + 1 == tried.size() ? 0 : i + 1].first;
    one.saved_ns = region_ns(judged_, one.first, until) - region_ns(judged, one.first, until) +
                   fixed_ns(best_.amounts, one) - fixed_ns(trial, one);
  }
  const auto fewer = [&](const Tried& one) { return is_fewer(moves_[one.move].change); };
  const auto windows = static_cast<double>(changed_.size());
  const auto helps = [&](const Tried& one) {
    return one.saved_ns > (fewer(one) ? -negligible_ns_ / windows : worth_ns_);
  };
  const auto first_of_rest = std::stable_partition(tried.begin(), tried.end(), helps);
  std::vector<Tried> helping(tried.begin(), first_of_rest);
  tried.erase(tried.begin(), first_of_rest);
  // All that help, else the one that helps most.
  bool adopted = false;
  const auto try_helping = [&] {
    const double saved_ns =
        std::accumulate(helping.begin(), helping.end(), 0.0,
                        [](double ns, const Tried& one) { return ns + one.saved_ns; });
    if (helping.empty() || (blocks == least_blocks_ && saved_ns < worth_at_last_ns_)) return;
    if (!tried.empty()) {
      Amounts part = best_.amounts;
      for (const Tried& one : helping) {
        part[one.first] = trial[one.first];
        part[one.second] = trial[one.second];
      }
      judged = glance(part);
      adopted = adopt_if_good(std::all_of(helping.begin(), helping.end(), fewer), part,
                              std::move(judged));
    } else {
      adopted = adopt_if_good(std::all_of(helping.begin(), helping.end(), fewer), trial,
                              std::move(judged));
    }
    if (!adopted) return;
    for (const Tried& one : helping) moves_saved_ns_[one.move] += std::max(0.0, one.saved_ns);
  };
  try_helping();
  if (!adopted && helping.size() > 1) {
    const auto best =
        std::max_element(helping.begin(), helping.end(),
                         [](const Tried& a, const Tried& b) { return a.saved_ns < b.saved_ns; });
    std::iter_swap(helping.begin(), best);
    tried.insert(tried.end(), helping.begin() + 1, helping.end());
    helping.resize(1);
    if (!fewer(helping.front())) try_helping();
  }
  if (!adopted) tried.insert(tried.end(), helping.begin(), helping.end());
  for (const Tried& one : tried) best_.most_saved_ns = std::max(best_.most_saved_ns, one.saved_ns);
}

double PlanSearch::fixed_ns(const Amounts& amounts, const Tried& one) const {
  const int used = (amounts[one.first].empty() ? 0 : 1) +
                   (one.second == one.first || amounts[one.second].empty() ? 0 : 1);
  return used * window_cost_ns_;
}

// With the smallest change: of each share of a window, however many it has, fewer, more, and all of
// it in another window; by itself also part of it.
std::vector<Move> PlanSearch::every_move() const {
  size_t most = 1;
  for (const WindowShares& shares : best_.amounts) most = std::max(most, shares.size());
  if (how_ == Sweep::many_at_once) most = std::min(most, kMostShares);
  std::vector<Move> moves = {{Change::grow, 0}, {Change::grow, 1}, {Change::drop, 0}};
  for (size_t which = 0; which < most; ++which) {
    for (const Change change : {Change::extend, Change::shrink}) moves.push_back({change, which});
    for (const Change change : {Change::later, Change::earlier}) {
      moves.push_back({change, which, true});
      if (how_ == Sweep::alone) moves.push_back({change, which});
    }
    if (how_ == Sweep::alone && which < 2) moves.push_back({Change::swap, which});
  }
  return moves;
}

// Each of `moves` once, by so many blocks, at all windows or at those that a change after `since`
// may concern. Keeps those worth trying again.
void PlanSearch::sweep(int64_t blocks, std::vector<Move>& moves, int64_t since) {
  if (since == kNever) {
    best_.changes = 0;
    best_.most_saved_ns = 0;
    best_.complete = true;
  }
  moves_ = moves;
  moves_saved_ns_.assign(moves.size(), 0);
  const int64_t begun = adopted_;
  const Amounts before = best_.amounts;
  const double before_ns = best_.step_ns;
  const std::vector<size_t> windows = windows_near_changes(since);
  if (how_ == Sweep::alone) {
    for (size_t move = 0; move < moves_.size(); ++move) {
      try_windows(move, move + 1, blocks, windows);
    }
  } else {
    const int64_t changes = best_.changes;
    const double most_saved_ns = best_.most_saved_ns;
    for (;;) {
      try_windows(0, moves_.size(), blocks, windows);
      if (adopted_ == begun || is_confirmed(before_ns)) break;
      // What seemed to help did not, all together: look more closely, or leave it.
      best_.amounts = before;
      judged_ = evaluate(before);
      best_.step_ns = judged_.step_ns;
      adopted_ = begun;
      std::fill(moves_saved_ns_.begin(), moves_saved_ns_.end(), 0.0);
      if (std::exchange(exactly_, true)) {
        best_.complete = false;
        break;
      }
      best_.changes = changes;
      best_.most_saved_ns = most_saved_ns;
    }
  }
  moves.clear();
  for (size_t move = 0; move < moves_.size(); ++move) {
    if (moves_saved_ns_[move] >= worth_again_ns_) moves.push_back(moves_[move]);
  }
}

// What was adopted at a glance: from the recorded step on it must be no worse than the plan before.
bool PlanSearch::is_confirmed(double before_ns) {
  judged_ = evaluate(best_.amounts);
  best_.step_ns = judged_.step_ns;
  return judged_.step_ns <= before_ns + negligible_ns_;
}

// Until no smallest change helps; while they do, larger ones may again.
void PlanSearch::sweep_until_nothing_helps(int64_t largest) {
  int64_t blocks = least_blocks_;
  int64_t smallest_begun = kNever, last_begun = kNever;
  for (int i = 0; i < kMostLastSweeps; ++i) {
    std::vector<Move> moves = every_move();
    const int64_t begun = adopted_;
    const bool all = how_ == Sweep::alone;
    sweep(blocks, moves, all ? kNever : blocks == least_blocks_ ? smallest_begun : last_begun);
    if (blocks == least_blocks_) {
      if (adopted_ == begun) return;
      smallest_begun = begun;
    }
    last_begun = begun;
    blocks = moves.empty() ? least_blocks_ : std::min(blocks * kRefine, largest);
  }
  best_.complete = false;
}

// Asking for what comes too late saves nothing. False: nothing is, or it helps to ask for it.
bool PlanSearch::drop_what_is_late() {
  if (runs_left_ <= 0) return false;
  Amounts cut = best_.amounts;
  evaluate(cut);
  cut_to_arrived(cut);
  if (cut == best_.amounts) return false;
  Judged judged = evaluate(cut);
  if (judged.step_ns > best_.step_ns + negligible_ns_) return false;
  adopt(cut, std::move(judged));
  return true;
}

int64_t PlanSearch::largest_change() const {
  int64_t largest = least_blocks_;
  for (const WindowShares& shares : best_.amounts) {
    largest = std::max(largest, sum(shares) / kLargestChange);
  }
  return largest;
}

int64_t PlanSearch::most_runs() const {
  return std::min(kMostRuns,
                  kFewestRuns + kMostOperators / std::max<int64_t>(1, ring_.operators()));
}

SearchResult PlanSearch::improve(SearchResult from) {
  best_ = std::move(from);
  runs_left_ = most_runs();
  if (best_.amounts.empty() || ring_.problem().consumers.empty()) return best_;
  exactly_ = ring_.operators() <= kMostOpsExactly;
  const int64_t for_the_end = runs_left_ / 2;
  runs_left_ -= for_the_end;
  judged_ = evaluate(best_.amounts);
  best_.step_ns = judged_.step_ns;
  const int64_t largest = largest_change();
  how_ = Sweep::many_at_once;
  for (int64_t blocks = largest; blocks > least_blocks_; blocks /= kRefineAtOnce) {
    std::vector<Move> moves = usual_moves();
    int64_t since = kNever, amount = blocks;
    for (int i = 0; i < kMostSweeps && !moves.empty(); ++i) {
      const int64_t begun = adopted_;
      sweep(amount, moves, since);
      since = begun;
      amount = std::min(amount * kMoreAgain, largest);
    }
  }
  drop_what_is_late();
  runs_left_ = std::max<int64_t>(0, runs_left_) + for_the_end;
  do {
    sweep_until_nothing_helps(largest);
  } while (drop_what_is_late());
  return best_;
}

SearchResult PlanSearch::settle(SearchResult from) {
  best_ = std::move(from);
  runs_left_ = kMostRunsAlone;
  if (best_.amounts.empty() || ring_.problem().consumers.empty()) return best_;
  judged_ = evaluate(best_.amounts);
  best_.step_ns = judged_.step_ns;
  how_ = Sweep::alone;
  do {
    // Finer than what is promised: a byte too many may evict what others read.
    for (int64_t blocks = 1; blocks < least_blocks_; blocks *= 2) {
      std::vector<Move> moves = usual_moves();
      for (int i = 0; i < kMostSweeps && !moves.empty(); ++i) sweep(blocks, moves, kNever);
    }
    sweep_until_nothing_helps(largest_change());
  } while (drop_what_is_late());
  return best_;
}

}  // namespace preserve
