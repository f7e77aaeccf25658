// SPDX-License-Identifier: Apache-2.0
#include "db/step/period.h"

#include <algorithm>
#include <unordered_map>

namespace preserve {
namespace {

constexpr double kMinAgreement = 0.9;  // of the positions of two consecutive blocks
constexpr size_t kMaxCandidates = 32;  // periods tried; each costs one pass

struct Candidate {
  size_t length = 0, begin = 0, support = 0;
};

// Distances between equal symbols that occur often, with the first place where each starts.
std::vector<Candidate> candidate_periods(const std::vector<uint64_t>& symbols, size_t min_repeats) {
  std::unordered_map<uint64_t, size_t> last_seen;
  std::unordered_map<size_t, Candidate> by_length;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const auto [entry, fresh] = last_seen.try_emplace(symbols[i], i);
    if (fresh) continue;
    Candidate& candidate = by_length[i - entry->second];
    if (candidate.support++ == 0) candidate.begin = entry->second;
    candidate.length = i - entry->second;
    entry->second = i;
  }
  std::vector<Candidate> candidates;
  for (const auto& [length, candidate] : by_length) {
    if (candidate.support + 1 >= min_repeats) candidates.push_back(candidate);
  }
  // Coverage of a distance is at most support * length; ties to the shorter, then the earlier.
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    const size_t cover_a = a.support * a.length, cover_b = b.support * b.length;
    if (cover_a != cover_b) return cover_a > cover_b;
    return a.length != b.length ? a.length < b.length : a.begin < b.begin;
  });
  if (candidates.size() > kMaxCandidates) candidates.resize(kMaxCandidates);
  return candidates;
}

// Whether the block of `length` symbols at `begin` and the one that follows it agree.
bool repeats_at(const std::vector<uint64_t>& symbols, size_t begin, size_t length) {
  size_t equal = 0;
  for (size_t i = begin; i < begin + length; ++i) equal += symbols[i] == symbols[i + length];
  return static_cast<double>(equal) >= kMinAgreement * static_cast<double>(length);
}

void keep_longer(const Period& other, Period& best) {
  const size_t cover = other.repeats * other.length, best_cover = best.repeats * best.length;
  if (cover > best_cover || (cover == best_cover && other.length < best.length)) best = other;
}

// Of blocks of `length` symbols from `begin` on.
Period longest_stretch(const std::vector<uint64_t>& symbols, size_t length, size_t begin,
                       size_t min_repeats) {
  Period best;
  size_t repeats = 1;
  const auto consider = [&] {
    if (repeats >= min_repeats) keep_longer({length, begin, repeats}, best);
  };
  for (size_t block = begin; block + 2 * length <= symbols.size(); block += length) {
    if (repeats_at(symbols, block, length)) {
      ++repeats;
    } else {
      consider();
      begin = block + length;
      repeats = 1;
    }
  }
  consider();
  return best;
}

// The distance may first show in the middle of the first block: begins where the repetition does.
Period extended(const std::vector<uint64_t>& symbols, Period period) {
  while (period.length != 0 && period.begin > 0 &&
         symbols[period.begin - 1] == symbols[period.begin - 1 + period.length]) {
    --period.begin;
  }
  while (period.length != 0 &&
         period.begin + (period.repeats + 1) * period.length <= symbols.size() &&
         repeats_at(symbols, period.begin + (period.repeats - 1) * period.length, period.length)) {
    ++period.repeats;
  }
  return period;
}

}  // namespace

Period find_period(const std::vector<uint64_t>& symbols, size_t min_repeats) {
  Period best;
  for (const Candidate& candidate : candidate_periods(symbols, min_repeats)) {
    keep_longer(longest_stretch(symbols, candidate.length, candidate.begin, min_repeats), best);
  }
  return extended(symbols, best);
}

Period repetition_of(const std::vector<uint64_t>& symbols, size_t length) {
  constexpr size_t kTwice = 2;
  if (length == 0 || length > symbols.size() / kTwice) return {};
  Period best = longest_stretch(symbols, length, 0, kTwice);
  return extended(symbols, best);
}

}  // namespace preserve
