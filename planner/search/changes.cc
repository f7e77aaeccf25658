// SPDX-License-Identifier: Apache-2.0
#include "planner/search/changes.h"

#include <algorithm>
#include <utility>

#include "common/as_index.h"

namespace preserve {

namespace {

constexpr int64_t kSpread = 4;  // times as many blocks as are given up
constexpr int64_t kWhole = int64_t{1} << 50;
constexpr size_t kConsumersAhead = 24;  // of which a window may begin to fetch for one

int64_t blocks_of(int64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes;
}

}  // namespace

const std::vector<Move>& usual_moves() {
  static const std::vector<Move> moves = {
      {Change::grow, 0},  {Change::swap, 0}, {Change::grow, 1},    {Change::shrink, 0},
      {Change::later, 0}, {Change::drop, 0}, {Change::earlier, 0}, {Change::shrink, 1},
      {Change::later, 1}, {Change::swap, 1}, {Change::earlier, 1}};
  return moves;
}

int64_t sum(const WindowShares& shares) {
  int64_t blocks = 0;
  for (const Share& share : shares) blocks += share.blocks;
  return blocks;
}

Changes::Changes(const WindowRing& ring, const PlanLimits& limits)
    : ring_(ring),
      limits_(limits),
      least_blocks_(std::max<int64_t>(1, blocks_of(limits.min_prefetch_bytes))),
      budget_blocks_(limits.budget_bytes / kBlockBytes) {}

void Changes::begin(const Amounts& amounts) {
  left_of_plan_ = left_blocks(amounts);
  held_by_plan_ = held_blocks(amounts);
  begin_again();
}

void Changes::begin_again() {
  left_ = left_of_plan_;
  held_ = held_by_plan_;
}

// --- the limits ----------------------------------------------------------------------------------

// Blocks that the window fetches for the consumer are held from its opening until they are read.
void Changes::hold(std::vector<int64_t>& held, size_t window, int32_t consumer,
                   int64_t blocks) const {
  const int64_t until = ring_.distance(window, consumer);
  held[window] += blocks;
  for (size_t i = ring_.next(window); i != window && ring_.distance_to_window(window, i) < until;
       i = ring_.next(i)) {
    held[i] += blocks;
  }
}

// Fetched and unread when each window opens, what it fetches itself included.
std::vector<int64_t> Changes::held_blocks(const Amounts& amounts) const {
  std::vector<int64_t> held(amounts.size(), 0);
  for (size_t window = 0; window < amounts.size(); ++window) {
    for (const Share& share : amounts[window]) hold(held, window, share.consumer, share.blocks);
  }
  return held;
}

std::vector<int64_t> Changes::left_blocks(const Amounts& amounts) const {
  std::vector<int64_t> left;
  left.reserve(ring_.problem().consumers.size());
  for (const PlanConsumer& consumer : ring_.problem().consumers) left.push_back(consumer.blocks);
  for (const WindowShares& shares : amounts) {
    for (const Share& share : shares) left[as_index(share.consumer)] -= share.blocks;
  }
  return left;
}

void Changes::drop_small(Amounts& amounts) const {
  for (WindowShares& shares : amounts) {
    std::erase_if(shares, [this](const Share& share) { return share.blocks < least_blocks_; });
  }
}

void Changes::keep_to_budget(Amounts& amounts, size_t kept_window, int32_t kept_consumer) const {
  std::vector<int64_t> held = held_blocks(amounts);
  // The share of `from` that is read last, if it is held when `window` opens.
  const auto last_held = [&](size_t from, size_t window) -> const Share* {
    const WindowShares& shares = amounts[from];
    auto last = shares.rbegin();
    if (last != shares.rend() && from == kept_window && last->consumer == kept_consumer) ++last;
    if (last == shares.rend()) return nullptr;
    const bool is_held = from == window || ring_.distance(from, last->consumer) >
                                               ring_.distance_to_window(from, window);
    return is_held ? &*last : nullptr;
  };
  for (size_t window = 0; window < amounts.size(); ++window) {
    // Its own first, then what earlier windows still hold.
    size_t from = window;
    do {
      while (held[window] > budget_blocks_) {
        const Share* found = last_held(from, window);
        if (found == nullptr) break;
        const Share last = *found;
        const int64_t over = held[window] - budget_blocks_;
        const int64_t fewer = last.blocks - over < least_blocks_ ? last.blocks : over;
        add_blocks(amounts[from], ring_, from, last.consumer, -fewer);
        hold(held, from, last.consumer, -fewer);
      }
      from = ring_.previous(from);
    } while (held[window] > budget_blocks_ && from != window);
  }
}

void Changes::fill(size_t window, int32_t consumer, Amounts& amounts) const {
  const int64_t there = ring_.problem().consumers[as_index(consumer)].blocks;
  const int64_t supply = limits_.most_bytes[window] / kBlockBytes;
  const int64_t filled = std::min({there, supply, budget_blocks_});
  if (filled < least_blocks_) return;
  int64_t elsewhere = there - filled, beside = supply - filled;
  for (size_t i = 0; i < amounts.size(); ++i) {
    for (Share& share : amounts[i]) {
      if (i != window && share.consumer != consumer) continue;
      int64_t& left = share.consumer != consumer ? beside : elsewhere;
      share.blocks = i == window && share.consumer == consumer ? 0 : std::min(share.blocks, left);
      left -= share.blocks;
    }
    std::erase_if(amounts[i], [](const Share& share) { return share.blocks == 0; });
  }
  add_blocks(amounts[window], ring_, window, consumer, filled);
  keep_to_budget(amounts, window, consumer);
}

// Blocks that the window may still fetch for the consumer in this trial.
int64_t Changes::room(size_t window, int32_t consumer) const {
  const int64_t until = ring_.distance(window, consumer);
  int64_t room = std::min(left_[as_index(consumer)], budget_blocks_ - held_[window]);
  for (size_t i = ring_.next(window); i != window && ring_.distance_to_window(window, i) < until;
       i = ring_.next(i)) {
    room = std::min(room, budget_blocks_ - held_[i]);
  }
  return room;
}

// Of what the window may fetch at all.
int64_t Changes::spare(size_t window, const Amounts& amounts) const {
  return std::max<int64_t>(0, limits_.most_bytes[window] / kBlockBytes - sum(amounts[window]));
}

Full Changes::full(size_t window, const Amounts& amounts) const {
  const int32_t consumer = consumer_ahead(window, 0);
  if (consumer < 0) return Full::nothing_left;
  if (spare(window, amounts) == 0) return Full::supply;
  return room(window, consumer) <= 0 ? Full::cache : Full::no;
}

// --- single changes ------------------------------------------------------------------------------

// More for the first, second ... consumer after the window that has blocks left.
bool Changes::grow(size_t window, size_t which, int64_t blocks, Amounts& amounts) {
  const int32_t consumer = consumer_ahead(window, which);
  return consumer >= 0 && fetch_more(window, consumer, blocks, amounts);
}

// More for one for which the window fetches already, and which grow() does not reach.
bool Changes::extend(size_t window, const Share& share, int64_t blocks, Amounts& amounts) {
  const int32_t consumer = share.consumer;
  if (left_[as_index(consumer)] == 0 || consumer == consumer_ahead(window, 0) ||
      consumer == consumer_ahead(window, 1)) {
    return false;
  }
  return fetch_more(window, consumer, blocks, amounts);
}

// The first, second ... consumer after the window that has blocks left; -1: none that is near.
int32_t Changes::consumer_ahead(size_t window, size_t which) const {
  const std::vector<PlanConsumer>& consumers = ring_.problem().consumers;
  const auto count = static_cast<int32_t>(consumers.size());
  int32_t consumer = ring_.first_consumer_after(window);
  for (size_t i = 0; i < std::min(kConsumersAhead, consumers.size()); ++i) {
    const auto index = as_index(consumer);
    if (left_[index] > 0 && consumers[index].blocks >= least_blocks_ && which-- == 0) {
      return consumer;
    }
    consumer = consumer + 1 == count ? 0 : consumer + 1;
  }
  return -1;
}

bool Changes::fetch_more(size_t window, int32_t consumer, int64_t blocks, Amounts& amounts) {
  const int64_t more = std::min({blocks, room(window, consumer), spare(window, amounts)});
  if (more <= 0) return false;
  const WindowShares before = amounts[window];
  add_blocks(amounts[window], ring_, window, consumer, more);
  const bool worth_a_request =
      std::any_of(amounts[window].begin(), amounts[window].end(), [&](const Share& share) {
        return share.consumer == consumer && share.blocks >= least_blocks_;
      });
  if (!worth_a_request) {
    amounts[window] = before;
    return false;
  }
  left_[as_index(consumer)] -= more;
  hold(held_, window, consumer, more);
  return true;
}

void Changes::shrink(size_t window, const Share& share, int64_t blocks, Amounts& amounts) const {
  const int64_t fewer = share.blocks - blocks < least_blocks_ ? share.blocks : blocks;
  add_blocks(amounts[window], ring_, window, share.consumer, -fewer);
}

// A window fetches less of a share, and the one before or after it more for the same consumer.
bool Changes::shift(size_t from, size_t to, const Share& share, int64_t taken,
                    std::optional<int64_t> given_instead, Amounts& amounts) {
  if (from == to) return false;
  const int32_t consumer = share.consumer;
  const bool later = to == ring_.next(from);
  const int64_t apart =
      later ? ring_.distance_to_window(from, to) : ring_.distance_to_window(to, from);
  const int64_t ahead = ring_.distance(from, consumer) + (later ? -apart : apart);
  if (ahead <= 0 || ahead > ring_.operators()) return false;
  if (share.blocks - taken < least_blocks_) taken = share.blocks;
  const int64_t given = given_instead.value_or(taken);
  const bool known = std::any_of(amounts[to].begin(), amounts[to].end(),
                                 [&](const Share& other) { return other.consumer == consumer; });
  if (!known && given < least_blocks_) return false;
  if (given > spare(to, amounts)) return false;
  // What goes is free for what comes, but not for a trial at other windows, where it may stay.
  const int64_t kept = std::min(taken, given);
  hold(held_, from, consumer, -kept);
  left_[as_index(consumer)] += kept;
  const bool fits = room(to, consumer) >= given;
  left_[as_index(consumer)] -= fits ? given : kept;
  hold(held_, fits && !later ? to : from, consumer, kept);
  if (!fits) return false;
  if (given > kept) hold(held_, to, consumer, given - kept);
  add_blocks(amounts[from], ring_, from, consumer, -taken);
  add_blocks(amounts[to], ring_, to, consumer, given);
  return true;
}

bool Changes::apply(const Move& move, size_t window, int64_t blocks, Amounts& amounts) {
  WindowShares& shares = amounts[window];
  if (move.whole) blocks = kWhole;
  if (move.change == Change::grow) return grow(window, move.which, blocks, amounts);
  if (move.which >= shares.size()) return false;
  const bool from_end = move.change == Change::shrink || move.change == Change::later ||
                        move.change == Change::swap || move.change == Change::spread;
  const Share share = shares[from_end ? shares.size() - 1 - move.which : move.which];
  switch (move.change) {
    case Change::grow:
      break;
    case Change::extend:
      return extend(window, share, blocks, amounts);
    case Change::shrink:
      shrink(window, share, blocks, amounts);
      return true;
    case Change::drop:
      shares.clear();
      return true;
    case Change::later:
      return shift(window, ring_.next(window), share, blocks, {}, amounts);
    case Change::earlier:
      return shift(window, ring_.previous(window), share, blocks, {}, amounts);
    case Change::gather:
      return blocks < share.blocks &&
             shift(window, ring_.previous(window), share, kWhole, blocks, amounts);
    case Change::spread:
      return shift(window, ring_.next(window), share, blocks, kSpread * blocks, amounts);
    case Change::swap: {  // fewer of this share, more for the first consumer with blocks left
      const WindowShares before = shares;
      shrink(window, share, blocks, amounts);
      const int64_t swapped = sum(before) - sum(shares);
      hold(held_, window, share.consumer, -swapped);
      const bool grown = grow(window, 0, swapped, amounts);
      hold(held_, window, share.consumer, swapped);  // of a trial at other windows it is not free
      if (!grown) shares = before;
      return grown;
    }
  }
  return false;
}

}  // namespace preserve
