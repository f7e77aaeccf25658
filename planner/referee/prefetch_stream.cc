// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/prefetch_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/error.h"

namespace preserve {
namespace {

double length_bytes(const std::vector<Prefetch>& prefetches) {
  double bytes = 0;
  for (const Prefetch& prefetch : prefetches) {
    bytes += static_cast<double>(prefetch.end - prefetch.begin);
  }
  return bytes;
}

}  // namespace

bool PrefetchStream::follow(const PrefetchOrders& orders, size_t op_count) {
  if (busy()) throw internal_error("a plan changed while it was under way");
  std::vector<Prefetch> for_next_step;
  std::vector<size_t> places;
  for (size_t i = 0; i < orders.prefetches.size(); ++i) {
    if (!orders.prefetches[i].next_step) continue;
    for_next_step.push_back(orders.prefetches[i]);
    places.push_back(i);
  }
  const bool same = for_next_step == for_next_step_;
  std::vector<double> waiting(orders.prefetches.size(), 0);
  for (size_t i = 0; same && i < places.size(); ++i) {
    waiting[places[i]] = waiting_[places_for_next_step_[i]];
  }
  waiting_ = std::move(waiting);
  places_for_next_step_ = std::move(places);
  orders_ = &orders;
  for_next_step_before_ = std::exchange(for_next_step_, std::move(for_next_step));
  read_.assign(orders.prefetches.size(), 0);
  last_start_.resize(op_count, -1);
  running_.resize(op_count, 0);
  return same;
}

void PrefetchStream::assume_arrived() {
  // When the first of them began to arrive, if all end when those before did.
  double since_bytes = cache_.clock_bytes();
  if (!for_next_step_before_.empty()) {
    since_bytes = std::numeric_limits<double>::infinity();
    // All before any is touched: two may fetch the same bytes.
    for (const Prefetch& prefetch : for_next_step_before_) {
      since_bytes = std::min(since_bytes, cache_.touched_at(prefetch.tensor, prefetch.begin));
    }
    since_bytes += length_bytes(for_next_step_before_);
    for (const Prefetch& prefetch : for_next_step_before_) {  // what is fetched no more
      cache_.touch(prefetch.tensor, prefetch.begin, prefetch.end,
                   -std::numeric_limits<double>::infinity());
    }
  }
  since_bytes -= length_bytes(for_next_step_);
  for (size_t i = 0; i < for_next_step_.size(); ++i) {
    const Prefetch& prefetch = for_next_step_[i];
    cache_.fetch(prefetch.tensor, prefetch.begin, prefetch.end, since_bytes, cache_.reread_bytes());
    waiting_[places_for_next_step_[i]] = static_cast<double>(prefetch.end - prefetch.begin);
    since_bytes += waiting_[places_for_next_step_[i]];
  }
}

std::vector<double> PrefetchStream::arrived_for_next_step() const {
  std::vector<double> arrived_bytes;
  for (const size_t place : places_for_next_step_) arrived_bytes.push_back(waiting_[place]);
  return arrived_bytes;
}

void PrefetchStream::open_window(size_t window, int64_t step, double now_ns) {
  queue_.push_back({.window = window, .step = step, .ready_ns = now_ns + rates_.start_latency_ns});
}

void PrefetchStream::close_window(size_t window, int64_t step) {
  for (auto batch = queue_.begin(); batch != queue_.end(); ++batch) {
    if (batch->window != window || batch->step != step) continue;
    if (batch == queue_.begin() && moving_) {
      arrive(1 - remaining_ns_ / transfer_ns_);
      end_transfer();
    }
    queue_.erase(batch);
    return;
  }
}

bool PrefetchStream::overtaken(const Prefetch& prefetch, int64_t step) const {
  return last_start_[as_index(prefetch.consumer)] >= step + (prefetch.next_step ? 1 : 0);
}

// Of the transfer under way the consumer, which starts, finds what has arrived. A kernel moves the
// rest all the same, until the consumer has read it.
void PrefetchStream::cut_for(int32_t consumer) {
  const Batch& batch = queue_.front();
  const Prefetch& current = orders_->prefetches[orders_->windows[batch.window].first + batch.next];
  if (current.consumer != consumer || !overtaken(current, batch.step)) return;
  arrive(1 - remaining_ns_ / transfer_ns_);
  late_ = consumer;
  demand_bytes_per_ns_ = 0;  // fetched once: the consumer takes them along
  if (rates_.stops_with_window) end_transfer();
}

void PrefetchStream::pass_over_during(int32_t consumer) {
  const bool runs = running_[as_index(consumer)] != 0;
  if (runs && !rates_.stops_with_window) passing_ = consumer;
}

// After `share_done` of the transfer under way: the front of the range has arrived.
void PrefetchStream::arrive(double share_done) {
  const Batch& batch = queue_.front();
  const size_t index = orders_->windows[batch.window].first + batch.next;
  const Prefetch& prefetch = orders_->prefetches[index];
  const auto length = static_cast<double>(prefetch.end - prefetch.begin);
  const int64_t arrived = std::llround(length * std::clamp(share_done, 0.0, 1.0));
  cache_.fetch(prefetch.tensor, prefetch.begin, prefetch.begin + arrived, since_bytes_,
               since_reread_);
  waiting_[index] = static_cast<double>(arrived);
}

void PrefetchStream::end_transfer() {
  moving_ = false;
  late_ = kNone;
  ++queue_.front().next;
}

void PrefetchStream::start_transfer(double now_ns) {
  while (!moving_ && passing_ == kNone && !queue_.empty()) {
    Batch& batch = queue_.front();
    const PrefetchWindow& window = orders_->windows[batch.window];
    if (batch.next == window.count) {
      queue_.pop_front();
      continue;
    }
    if (batch.ready_ns > now_ns) return;
    const Prefetch& prefetch = orders_->prefetches[window.first + batch.next];
    if (overtaken(prefetch, batch.step)) {
      ++batch.next;
      pass_over_during(prefetch.consumer);
      continue;
    }
    const double resident = cache_.resident_bytes(prefetch.tensor, prefetch.begin, prefetch.end);
    redundant_bytes_ += resident;
    since_bytes_ = cache_.clock_bytes();
    since_reread_ = cache_.reread_bytes();
    cache_.pass(resident);
    // What is cached and what is not lie mixed: both take their time.
    const double missing = static_cast<double>(prefetch.end - prefetch.begin) - resident;
    transfer_ns_ = missing / rates_.rate_bytes_per_ns + resident / rates_.cached_rate_bytes_per_ns;
    remaining_ns_ = transfer_ns_;
    demand_bytes_per_ns_ = missing / transfer_ns_;
    moving_ = true;
  }
}

void PrefetchStream::start_next_step() {
  if (!queue_.empty()) throw internal_error("a step ended before its prefetches");
  redundant_bytes_ = 0;
}

}  // namespace preserve
