// SPDX-License-Identifier: Apache-2.0
// The side stream of a simulated step: prefetches leave in the order of the plan, window after
// window, each window a start latency after its operator began. A prefetch that is overtaken by its
// consumer is cut there: what has arrived stays, the rest is the consumer's to fetch, so that no
// byte crosses the memory twice. A stream that outlasts its window cannot detect that: it moves the
// rest all the same, and begins the next prefetch when that has arrived or the consumer has ended.
// Times in ns from the start of the current step, rates in bytes/ns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <vector>

#include "common/as_index.h"
#include "planner/referee/cache_state.h"

namespace preserve {

struct Prefetch {
  int32_t tensor = 0;
  int64_t begin = 0, end = 0;  // bytes of the tensor
  int32_t consumer = 0;        // ordinal
  bool next_step = false;

  bool operator==(const Prefetch&) const = default;
};

struct PrefetchWindow {
  int32_t ordinal = 0;          // operator that opens it
  size_t first = 0, count = 0;  // into PrefetchOrders::prefetches
};

// A plan as the stream executes it.
struct PrefetchOrders {
  std::vector<Prefetch> prefetches;
  std::vector<PrefetchWindow> windows;  // by ordinal
};

// How the stream issues it.
struct StreamRates {
  double rate_bytes_per_ns = 0;         // from memory
  double cached_rate_bytes_per_ns = 0;  // of what is still cached, and only read there
  double start_latency_ns = 0;
  bool stops_with_window = false;  // the prefetching core is the one that runs the next operator
};

class PrefetchStream {
 public:
  // The references must outlive the stream.
  PrefetchStream(const StreamRates& rates, CacheState& cache) : rates_(rates), cache_(cache) {}

  // Follows other orders from the next step on, of a step of `op_count` operators. True when they
  // fetch for the next step what the orders before did, so that it has arrived.
  bool follow(const PrefetchOrders& orders, size_t op_count);

  // Other orders than those before have been followed for long: what they fetch for the next step
  // has arrived, the last of it when the last of theirs did. For a stream that outlasts its
  // window, for which the step waits.
  void assume_arrived();
  // Nothing has been fetched for the next step.
  void forget() { std::fill(waiting_.begin(), waiting_.end(), 0.0); }
  // Bytes that have arrived for the next step, by prefetch for it.
  std::vector<double> arrived_for_next_step() const;

  void open_window(size_t window, int64_t step, double now_ns);
  void close_window(size_t window, int64_t step);
  // The consumer of `prefetches` starts: cuts what is still under way for it. The bytes of each
  // that are in time are in arrived_bytes() until it is read again a step later.
  void consumer_starts(int32_t consumer, std::span<const uint32_t> prefetches, int64_t step) {
    last_start_[as_index(consumer)] = step;
    running_[as_index(consumer)] = 1;
    if (moving_) cut_for(consumer);
    for (const uint32_t prefetch : prefetches) {
      read_[prefetch] = waiting_[prefetch];
      waiting_[prefetch] = 0;
    }
  }
  void consumer_ends(int32_t consumer) {
    running_[as_index(consumer)] = 0;
    if (passing_ == consumer) passing_ = kNone;
    if (late_ == consumer) end_transfer();
  }
  double arrived_bytes(size_t prefetch) const { return read_[prefetch]; }

  // Nothing is known to arrive while operators of unknown traffic run.
  void pause() { ++paused_; }
  void go_on() { --paused_; }

  // Starts the next transfer when its time has come. Call after every event, before demand.
  void settle(double now_ns) {
    if (!moving_ && passing_ == kNone && paused_ == 0 && !queue_.empty()) start_transfer(now_ns);
  }
  // From memory, while it moves.
  double demand_bytes_per_ns() const { return moving_ && paused_ == 0 ? demand_bytes_per_ns_ : 0; }
  // Time until something changes by itself when `share` of the demand is granted; infinity:
  // nothing.
  double next_change_ns(double now_ns, double share) const {
    if (moving_ && paused_ == 0) return remaining_ns_ / share;
    if (moving_ || passing_ != kNone || paused_ > 0 || queue_.empty())
      return std::numeric_limits<double>::infinity();
    return std::max(0.0, queue_.front().ready_ns - now_ns);
  }
  void advance(double dur_ns, double share) {
    if (!moving_ || paused_ > 0) return;
    const double moved_ns = std::min(remaining_ns_, share * dur_ns);
    remaining_ns_ -= moved_ns;
    cache_.pass(moved_ns * demand_bytes_per_ns_);
    // Less than the time of a thousandth of a byte is the rounding of the clock, not a transfer.
    if (remaining_ns_ * rates_.rate_bytes_per_ns >= 1e-3) return;
    if (late_ == kNone) arrive(1);
    end_transfer();
  }
  // Nothing is under way then: a window has been closed, or the step has waited for it.
  void start_next_step();

  bool busy() const { return moving_ || !queue_.empty(); }  // settled
  double redundant_bytes() const { return redundant_bytes_; }

 private:
  static constexpr int32_t kNone = -1;
  struct Batch {
    size_t window = 0;
    int64_t step = 0;
    double ready_ns = 0;
    size_t next = 0;  // position in the window
  };

  void start_transfer(double now_ns);
  void cut_for(int32_t consumer);
  bool overtaken(const Prefetch& prefetch, int64_t step) const;
  void pass_over_during(int32_t consumer);
  void arrive(double share_done);
  void end_transfer();

  const StreamRates& rates_;
  CacheState& cache_;
  const PrefetchOrders* orders_ = nullptr;
  std::vector<Prefetch> for_next_step_;         // of orders_, and where they are there
  std::vector<Prefetch> for_next_step_before_;  // of the orders before
  std::vector<size_t> places_for_next_step_;
  std::deque<Batch> queue_;
  bool moving_ = false;      // the front batch's prefetch `next` is being transferred
  int paused_ = 0;           // by so many operators
  int32_t late_ = kNone;     // the running consumer that has overtaken that transfer
  int32_t passing_ = kNone;  // the running consumer over all of whose bytes it passes
  double transfer_ns_ = 0, remaining_ns_ = 0;  // alone
  double demand_bytes_per_ns_ = 0;
  double since_reread_ = 0;
  double since_bytes_ = 0;           // age of what is being transferred: that of its first byte
  std::vector<int64_t> last_start_;  // by ordinal: last step in which it started
  std::vector<char> running_;        // by ordinal
  std::vector<double> waiting_;      // by prefetch: arrived, consumer not started
  std::vector<double> read_;         // by prefetch: arrived when the consumer last started
  double redundant_bytes_ = 0;
};

}  // namespace preserve
