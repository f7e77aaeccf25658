// SPDX-License-Identifier: Apache-2.0
#include "planner/search/search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/as_index.h"

namespace preserve {

namespace {

// Operators simulated in a search: a bound on the work, reached only by large steps.
constexpr int64_t kMostOperators = 200'000;
constexpr int64_t kFewestRuns = 12;
constexpr int64_t kMostRuns = 1000;
constexpr int64_t kMostRunsAlone = 10'000;

// A plan asks for at most this much of what the referee sees arrive in time. Cutting what is late
// lets later prefetches begin earlier, so it is looked at again, a few times.
constexpr double kMostAsked = 1.05;
constexpr int kMostCuts = 6;

// Of the step: what a byte must save to be worth asking for.
constexpr double kNegligible = 1e-7;

// Changes begin with this share of the largest window and become smaller by a factor.
constexpr int64_t kLargestChange = 2;
constexpr int64_t kRefine = 8;
constexpr size_t kMostShares = 4;  // of a window, from either end, that are changed at many at once
constexpr int kMostSweeps = 4;
constexpr int kMostLastSweeps = 24;

constexpr size_t kLeastApart = 2;

// Those that help most often.
const std::vector<Move> kMoves = {{Change::grow, 0},    {Change::swap, 0},   {Change::grow, 1},
                                  {Change::shrink, 0},  {Change::later, 0},  {Change::drop, 0},
                                  {Change::earlier, 0}, {Change::shrink, 1}, {Change::later, 1},
                                  {Change::swap, 1},    {Change::earlier, 1}};

bool is_fewer(Change change) {
  return change == Change::shrink || change == Change::drop;
}

}  // namespace

PlanSearch::PlanSearch(Referee& referee, const WindowRing& ring, const PlanLimits& limits)
    : referee_(referee),
      ring_(ring),
      window_cost_ns_(static_cast<double>(limits.window_cost_ns)),
      changes_(ring, limits),
      least_blocks_(changes_.least_blocks()),
      negligible_ns_(kNegligible * referee.baseline_step_ns()) {}

// --- judging -------------------------------------------------------------------------------------

PlanSearch::Judged PlanSearch::evaluate(const Amounts& amounts) {
  orders_ = ring_.orders_of(amounts, &owners_);
  return described(referee_.run(orders_));
}

// To see where a change may help.
PlanSearch::Judged PlanSearch::glance(const Amounts& amounts) {
  orders_ = ring_.orders_of(amounts, &owners_);
  return described(referee_.glance(orders_));
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

// Windows that the bytes of one are held over at most, itself included.
size_t PlanSearch::reach() const {
  size_t most = 1;
  for (size_t window = 0; window < best_.amounts.size(); ++window) {
    if (best_.amounts[window].empty()) continue;
    const int64_t until = ring_.distance(window, best_.amounts[window].back().consumer);
    size_t windows = 1;
    for (size_t i = ring_.next(window); i != window && ring_.distance_to_window(window, i) < until;
         i = ring_.next(i)) {
      ++windows;
    }
    most = std::max(most, windows);
  }
  return most;
}

// Windows that are at least reach() + 1 apart; `all`: every window is in one class.
std::vector<std::vector<size_t>> PlanSearch::classes(bool all) const {
  const size_t count = ring_.windows().size();
  const size_t stride = how_ == Sweep::alone ? 1 : std::max<size_t>(kLeastApart, reach() + 1);
  std::vector<std::vector<size_t>> classes;
  for (size_t first = 0; first < std::min(stride, count); ++first) {
    classes.emplace_back();
    for (size_t window = first; window < count; window += stride) {
      if (window == first || count - window + first >= stride) {
        classes.back().push_back(window);
      } else if (all) {
        classes.push_back({window});  // too near to the first, over the end of the step
      }
    }
  }
  return classes;
}

void PlanSearch::adopt(Amounts amounts, Judged judged) {
  best_.amounts = std::move(amounts);
  best_.step_ns = judged.step_ns;
  judged_ = std::move(judged);
  ++adopted_;
}

// Fewer blocks need save nothing, but not more than rounding may be lost.
bool PlanSearch::adopt_if_good(const Move& move, Amounts amounts, Judged judged) {
  const double least_ns = is_fewer(move.change) ? -negligible_ns_ : negligible_ns_;
  if (best_.step_ns - judged.step_ns < least_ns) return false;
  if (judged.late_bytes > judged_.late_bytes) return false;
  adopt(std::move(amounts), std::move(judged));
  return true;
}

// The change at each of the windows. Where one leaves no room for another, that one is tried later.
void PlanSearch::try_windows(const Move& move, int64_t blocks, std::vector<size_t> windows) {
  while (!windows.empty()) {
    if (runs_left_ <= 0) {
      best_.complete = false;
      return;
    }
    changes_.begin(best_.amounts);
    Amounts trial = best_.amounts;
    std::vector<Tried> tried;
    std::vector<size_t> not_yet;
    for (const size_t window : windows) {
      if (!tried.empty() && how_ == Sweep::alone) {
        not_yet.push_back(window);
        continue;
      }
      if (!changes_.apply(move, window, blocks, trial)) {
        if (!tried.empty()) not_yet.push_back(window);
        continue;
      }
      Tried& one = tried.emplace_back();
      one.first = move.change == Change::earlier ? ring_.previous(window) : window;
      one.second = move.change == Change::later || move.change == Change::earlier
                       ? ring_.next(one.first)
                       : one.first;
    }
    if (tried.empty()) return;
    best_.changes += static_cast<int64_t>(tried.size());
    if (how_ == Sweep::alone) {
      try_alone(move, std::move(trial));
    } else {
      try_together(move, trial, std::move(tried));
    }
    windows = std::move(not_yet);
  }
}

void PlanSearch::try_alone(const Move& move, Amounts trial) {
  Judged judged = evaluate(trial);
  const double saved_ns = best_.step_ns - judged.step_ns;
  if (adopt_if_good(move, std::move(trial), std::move(judged))) return;
  if (judged.late_bytes <= judged_.late_bytes) {
    best_.most_saved_ns = std::max(best_.most_saved_ns, saved_ns);
  }
}

void PlanSearch::try_together(const Move& move, const Amounts& trial, std::vector<Tried> tried) {
  const Judged judged = glance(trial);
  const bool fewer = is_fewer(move.change);
  const double least_ns =
      (fewer ? -negligible_ns_ : negligible_ns_) / static_cast<double>(ring_.windows().size());
  size_t best = 0;
  for (size_t i = 0; i < tried.size(); ++i) {
    Tried& one = tried[i];
    const size_t until = tried[i + 1 == tried.size() ? 0 : i + 1].first;
    one.saved_ns = region_ns(judged_, one.first, until) - region_ns(judged, one.first, until) +
                   fixed_ns(best_.amounts, one) - fixed_ns(trial, one);
    if (one.saved_ns > tried[best].saved_ns) best = i;
  }
  best_.most_saved_ns = std::max(best_.most_saved_ns, tried[best].saved_ns);
  const auto only = [&](const auto& wanted) {
    Amounts part = best_.amounts;
    for (const Tried& one : tried) {
      if (!wanted(one)) continue;
      part[one.first] = trial[one.first];
      part[one.second] = trial[one.second];
    }
    return part;
  };
  const auto helps = [least_ns](const Tried& one) { return one.saved_ns > least_ns; };
  const auto helping = std::count_if(tried.begin(), tried.end(), helps);
  if (helping == 0) return;
  Amounts part = only(helps);
  Judged found = evaluate(part);
  if (adopt_if_good(move, std::move(part), std::move(found))) return;
  if (fewer || helping == 1) return;
  // Together they do not do what each has done: the best alone.
  const size_t alone = tried[best].first;
  part = only([alone](const Tried& one) { return one.first == alone; });
  found = evaluate(part);
  adopt_if_good(move, std::move(part), std::move(found));
}

double PlanSearch::fixed_ns(const Amounts& amounts, const Tried& one) const {
  const int used = (amounts[one.first].empty() ? 0 : 1) +
                   (one.second == one.first || amounts[one.second].empty() ? 0 : 1);
  return used * window_cost_ns_;
}

// With the smallest change: each share of a window, however many it has.
std::vector<Move> PlanSearch::every_move() const {
  size_t most = 1;
  for (const WindowShares& shares : best_.amounts) most = std::max(most, shares.size());
  if (how_ == Sweep::many_at_once) most = std::min(most, kMostShares);
  std::vector<Move> moves = kMoves;
  for (size_t which = 0; which < most; ++which) {
    moves.push_back({Change::extend, which});
    if (which < 2) continue;  // the others are among kMoves
    for (const Change change : {Change::shrink, Change::later, Change::earlier}) {
      moves.push_back({change, which});
    }
  }
  return moves;
}

// Each of `moves` once, by so many blocks; with the smallest change whole shares are moved too.
// Keeps those that helped somewhere.
void PlanSearch::sweep(int64_t blocks, std::vector<Move>& moves) {
  static constexpr int64_t kWhole = int64_t{1} << 50;
  best_.changes = 0;
  best_.most_saved_ns = 0;
  best_.complete = true;
  std::erase_if(moves, [&](const Move& move) {
    const int64_t before = adopted_;
    for (const std::vector<size_t>& windows : classes(blocks == least_blocks_)) {
      try_windows(move, blocks, windows);
      const bool shifts = move.change == Change::later || move.change == Change::earlier;
      if (shifts && blocks == least_blocks_) try_windows(move, kWhole, windows);
    }
    return adopted_ == before;
  });
}

// Until no smallest change helps; while they do, larger ones may again.
void PlanSearch::sweep_until_nothing_helps(int64_t largest) {
  int64_t blocks = least_blocks_;
  for (int i = 0; i < kMostLastSweeps; ++i) {
    std::vector<Move> moves = every_move();
    sweep(blocks, moves);
    if (moves.empty() && blocks == least_blocks_) return;
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
  adopt(std::move(cut), std::move(judged));
  return true;
}

int64_t PlanSearch::largest_change() const {
  int64_t largest = least_blocks_;
  for (const WindowShares& shares : best_.amounts) {
    largest = std::max(largest, sum(shares) / kLargestChange);
  }
  return largest;
}

SearchResult PlanSearch::improve(SearchResult from) {
  best_ = std::move(from);
  const auto operators = static_cast<int64_t>(referee_.models().size());
  runs_left_ = std::min(kMostRuns, kFewestRuns + kMostOperators / std::max<int64_t>(1, operators));
  if (best_.amounts.empty() || ring_.problem().consumers.empty()) return best_;
  judged_ = evaluate(best_.amounts);
  best_.step_ns = judged_.step_ns;
  const int64_t largest = largest_change();
  how_ = Sweep::many_at_once;
  for (int64_t blocks = largest; blocks > least_blocks_; blocks /= kRefine) {
    std::vector<Move> moves = kMoves;
    for (int i = 0; i < kMostSweeps && !moves.empty(); ++i) sweep(blocks, moves);
    drop_what_is_late();
  }
  sweep_until_nothing_helps(largest);
  drop_what_is_late();
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
      std::vector<Move> moves = kMoves;
      for (int i = 0; i < kMostSweeps && !moves.empty(); ++i) sweep(blocks, moves);
    }
    sweep_until_nothing_helps(largest_change());
  } while (drop_what_is_late());
  return best_;
}

}  // namespace preserve
