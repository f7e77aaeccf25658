// SPDX-License-Identifier: Apache-2.0
// The loop of every sweep (preserve-explore, preserve-replay --grid): evaluates the cells that have
// no result yet, on threads of this process and on all ranks, and hands each result to rank 0.
//
// In rounds: every rank takes its share of the next cells and works on it until the time of the
// round is over; then rank 0 gets what the others finished, and the rest is dealt out again. So a
// slow rank delays nobody. What rank 0 evaluates itself is recorded at once; what is lost when all
// of them are killed is a round of the others.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "replay/ranks/group.h"

namespace preserve {

struct CellRange {
  int64_t first = 1, last = 0;  // ids, both included
};

template <typename Result>
struct CellWork {
  int threads = 1;       // of this rank
  int64_t round_ns = 0;  // at least one cell is evaluated, however short
  // On every rank, from several threads at once. Nothing: it was interrupted, so the cell counts as
  // not evaluated.
  std::function<std::optional<Result>(int64_t id)> evaluate;
  // On rank 0, one at a time.
  std::function<void(const Result&)> record;
  std::function<void()> after_round{};  // on rank 0
  std::function<bool()> stop{};         // asked on every rank, once per round
  // How results travel to rank 0. Not needed where it is alone.
  std::function<std::string(const std::vector<Result>&)> to_text{};
  std::function<std::vector<Result>(const std::string&)> from_text{};
};

// Hands out cells in the order given; what was not finished comes first.
class CellQueue {
 public:
  // From what to_text() says of the ranges.
  explicit CellQueue(const std::string& ranges);
  std::vector<int64_t> take(int64_t most);
  void give_back(int64_t id) { returned_.push_back(id); }
  bool empty() const { return returned_.empty() && next_ == ranges_.size(); }

 private:
  std::vector<CellRange> ranges_;
  size_t next_ = 0;
  std::vector<int64_t> returned_;
};
std::string to_text(const std::vector<CellRange>& ranges);

// What a rank tells the others after a round.
struct RoundNote {
  bool stop = false;
  std::vector<int64_t> finished{};  // ids, ascending
  std::string results{};            // for rank 0
};
std::string to_text(const RoundNote& note);
RoundNote read_round_note(const std::string& text);

namespace detail {

// Of `ids` as many as there is time for, at least one, in their order. `take` gets each result; it
// is called by one thread at a time.
template <typename Result>
std::vector<int64_t> evaluate_some(const std::vector<int64_t>& ids, int64_t end_ns,
                                   const CellWork<Result>& work,
                                   const std::function<void(Result)>& take) {
  std::atomic<size_t> next{0};
  std::mutex one_at_a_time;
  std::exception_ptr failure;
  std::vector<int64_t> finished;
  const auto some = [&] {
    try {
      while (true) {
        if (next.load() > 0 && monotonic_ns() >= end_ns) return;
        const size_t place = next.fetch_add(1);
        if (place >= ids.size()) return;
        std::optional<Result> result = work.evaluate(ids[place]);
        if (!result) continue;
        const std::scoped_lock lock(one_at_a_time);
        take(*std::move(result));
        finished.push_back(ids[place]);
      }
    } catch (...) {
      const std::scoped_lock lock(one_at_a_time);
      failure = std::current_exception();
      next = ids.size();
    }
  };
  std::vector<std::thread> others;
  const auto count = std::min<size_t>(static_cast<size_t>(work.threads), ids.size());
  for (size_t i = 1; i < count; ++i) others.emplace_back(some);
  some();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  std::ranges::sort(finished);
  return finished;
}

}  // namespace detail

// `missing`: on rank 0, the cells to evaluate in their order; ignored on the others. False when it
// was stopped before all of them had a result. What `evaluate` and `record` throw comes out on the
// rank that called them.
template <typename Result>
bool run_cells(const Ranks& ranks, const std::vector<CellRange>& missing,
               const CellWork<Result>& work) {
  constexpr int64_t kMostOfRank = 4096;  // in one round; bounds what a message holds
  const auto rank = static_cast<size_t>(ranks.rank()), size = static_cast<size_t>(ranks.size());
  const bool first = rank == 0;
  CellQueue queue(ranks.all_texts(first ? to_text(missing) : "").front());
  int64_t start_ns = monotonic_ns();
  for (bool stopped = false; !stopped;) {
    const std::vector<int64_t> dealt = queue.take(kMostOfRank * static_cast<int64_t>(size));
    if (dealt.empty()) return true;
    std::vector<int64_t> mine;
    for (size_t i = rank; i < dealt.size(); i += size) mine.push_back(dealt[i]);
    RoundNote here;
    std::vector<Result> results;
    if (!mine.empty()) {
      here.finished =
          detail::evaluate_some<Result>(mine, start_ns + work.round_ns, work, [&](Result result) {
            if (first) {
              work.record(result);
            } else {
              results.push_back(std::move(result));
            }
          });
    }
    here.stop = work.stop && work.stop();
    if (!first) here.results = work.to_text(results);
    const std::vector<std::string> notes = ranks.all_texts(to_text(here));
    // From here, so that what rank 0 needs for the results of the others is part of its round: they
    // need not wait for it.
    start_ns = monotonic_ns();
    std::vector<int64_t> finished;
    for (size_t i = 0; i < size; ++i) {
      const RoundNote note = read_round_note(notes[i]);
      stopped = stopped || note.stop;
      finished.insert(finished.end(), note.finished.begin(), note.finished.end());
      if (!first || i == 0) continue;
      for (const Result& result : work.from_text(note.results)) work.record(result);
    }
    std::ranges::sort(finished);
    for (const int64_t id : dealt) {
      if (!std::ranges::binary_search(finished, id)) queue.give_back(id);
    }
    if (first && work.after_round) work.after_round();
  }
  return queue.empty();
}

}  // namespace preserve
