// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/step_engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "common/as_index.h"
#include "common/error.h"

namespace preserve {

StepEngine::StepEngine(const FoldedStep& step, const RecordedOrder& order,
                       const DeviceModel& device, const EngineHardware& hardware,
                       const std::vector<OpModel>& models)
    : order_(order),
      hardware_(hardware),
      models_(models),
      cache_(device, step.tensors.size(), waiting_age(device)),
      kept_(cache_),
      stream_(hardware.stream, cache_) {
  const size_t count = step.ops.size();
  by_need_.resize(count);
  std::iota(by_need_.begin(), by_need_.end(), 0);
  std::stable_sort(by_need_.begin(), by_need_.end(), [&](int32_t a, int32_t b) {
    return order_.rules[as_index(a)].ended < order_.rules[as_index(b)].ended;
  });
  place_by_end_.resize(count);
  first_access_.reserve(count + 1);
  first_follower_.assign(count + 2, 0);
  for (size_t i = 0; i < count; ++i) {
    place_by_end_[as_index(order_.by_end[i])] = static_cast<int32_t>(i);
    const int32_t inside = order_.rules[i].inside;
    all_conditions_.push_back(inside >= 0 ? 2 : 1);
    if (inside >= 0) ++first_follower_[as_index(inside) + 2];
    first_access_.push_back(static_cast<uint32_t>(accesses_.size()));
    for (const StepAccess& access : step.ops[i].accesses) {
      accesses_.push_back({access.tensor, access.mode == AccessMode::read, access.offset_bytes,
                           access.offset_bytes + access.bytes});
    }
  }
  first_access_.push_back(static_cast<uint32_t>(accesses_.size()));
  std::partial_sum(first_follower_.begin(), first_follower_.end(), first_follower_.begin());
  followers_.resize(first_follower_.back());
  for (size_t i = 0; i < count; ++i) {
    const int32_t inside = order_.rules[i].inside;
    if (inside >= 0) {
      followers_[first_follower_[as_index(inside) + 1]++] = static_cast<int32_t>(i);
    }
  }
  window_of_.resize(count);
  for (const OperatorClass of : kOperatorClasses) slows_operators_ |= slowdown_ns(of) > 0;
  static const PrefetchOrders kNone;
  follow(kNone);
}

bool StepEngine::follow(const PrefetchOrders& orders) {
  const size_t count = window_of_.size();
  orders_ = &orders;
  window_of_.assign(count, -1);
  for (size_t i = 0; i < orders.windows.size(); ++i) {
    window_of_[as_index(orders.windows[i].ordinal)] = static_cast<int32_t>(i);
  }
  first_of_consumer_.assign(count + 2, 0);
  for (const Prefetch& prefetch : orders.prefetches) {
    ++first_of_consumer_[as_index(prefetch.consumer) + 2];
  }
  std::partial_sum(first_of_consumer_.begin(), first_of_consumer_.end(),
                   first_of_consumer_.begin());
  prefetches_by_consumer_.resize(orders.prefetches.size());
  for (size_t i = 0; i < orders.prefetches.size(); ++i) {
    const auto consumer = as_index(orders.prefetches[i].consumer);
    prefetches_by_consumer_[first_of_consumer_[consumer + 1]++] = static_cast<uint32_t>(i);
  }
  return stream_.follow(orders, count);
}

void StepEngine::restore_state() {
  cache_ = kept_;
  stream_.forget();
}

const EngineStep& StepEngine::run() {
  begin();
  while (!is_over()) advance_to_next_change();
  result_.step_ns = clock_[kReal];
  result_.redundant_bytes = stream_.redundant_bytes();
  stream_.start_next_step();
  return result_;
}

// A graph has ended when all its nodes have, prefetches without a consumer included; until then the
// next step does not begin.
bool StepEngine::is_over() {
  if (!step_over_ || hardware_.stream.stops_with_window) return step_over_;
  stream_.settle(clock_[kReal]);
  return !stream_.busy();
}

void StepEngine::begin() {
  const size_t count = window_of_.size();
  ++step_number_;
  std::fill(std::begin(clock_), std::end(clock_), 0.0);
  running_.resize(count);
  over_.assign(count, 0);
  conditions_ = all_conditions_;
  ended_prefix_ = released_ = finished_ = memory_operators_ = 0;
  demand_bytes_per_ns_ = 0;
  step_over_ = false;
  result_.hit_bytes = result_.collective_slowdown_ns = 0;
  result_.ops.resize(count);
  result_.arrived_bytes.assign(orders_->prefetches.size(), 0);
  result_.hit_prefetch_bytes.assign(orders_->prefetches.size(), 0);
  fetched_at_.assign(orders_->prefetches.size(), 0);
  release_ready();
}

// Share of their demand that operators and prefetches get. The recorded durations already contain
// the contention among the operators themselves, so only prefetch traffic on top can slow them.
double StepEngine::memory_share(double stream_bytes_per_ns) const {
  const double wanted = demand_bytes_per_ns_ + stream_bytes_per_ns;
  const double limit = std::max(hardware_.memory_bytes_per_ns, demand_bytes_per_ns_);
  return wanted > limit ? limit / wanted : 1.0;
}

double StepEngine::slowdown_ns(OperatorClass of) const {
  return hardware_.operator_slowdown_per_byte_ns[of].value_or(0);
}

StepEngine::Clock StepEngine::clock_of(const OpModel& model, bool misses) const {
  if (model.collective) return kCollective;
  if (!model.operator_class || slowdown_ns(*model.operator_class) <= 0) {
    return misses ? kMemory : kReal;
  }
  return static_cast<Clock>(kSlowed + 2 * static_cast<int>(*model.operator_class) + misses);
}

void StepEngine::advance_to_next_change() {
  stream_.settle(clock_[kReal]);
  if (events_[kReal].first_at() <= clock_[kReal]) {  // now: no clock moves
    handle(events_[kReal].pop());
    return;
  }
  const double stream_bytes_per_ns = stream_.demand_bytes_per_ns();
  double memory_speed = 1, collective_speed = 1;
  if (stream_bytes_per_ns > 0) {
    memory_speed = memory_share(stream_bytes_per_ns);
    // May be negative: traffic that costs a collective more than it takes. Its end then recedes
    // until the traffic, which is finite, is over.
    collective_speed = 1 - hardware_.slowdown_per_byte_ns * stream_bytes_per_ns * memory_speed;
  }
  double dur_ns = stream_.next_change_ns(clock_[kReal], memory_speed);
  Clock first = kClocks;
  // On a tie the prefetch is first: bytes that arrive as their consumer starts are in time.
  const auto consider = [&](Clock clock, double speed) {
    const double ahead = std::max(0.0, events_[clock].first_at() - clock_[clock]);
    if (speed <= 0 && ahead > 0) return;
    const double wait_ns = speed == 1 || ahead == 0 ? ahead : ahead / speed;
    if (wait_ns >= dur_ns) return;
    dur_ns = wait_ns;
    first = clock;
  };
  consider(kReal, 1);
  consider(kMemory, memory_speed);
  consider(kCollective, collective_speed);
  double lost[kOperatorClassCount] = {};  // of the operators' own time, by what moves beside them
  for (size_t i = 0; slows_operators_ && i < kOperatorClassCount; ++i) {
    lost[i] = slowdown_ns(kOperatorClasses[i]) * stream_bytes_per_ns * memory_speed;
    consider(static_cast<Clock>(kSlowed + 2 * i), 1 - lost[i]);
    consider(static_cast<Clock>(kSlowed + 2 * i + 1), memory_speed - lost[i]);
  }
  if (!std::isfinite(dur_ns)) throw internal_error("the simulated step stands still");
  clock_[kReal] += dur_ns;
  clock_[kMemory] += memory_speed * dur_ns;
  clock_[kCollective] += collective_speed * dur_ns;
  for (size_t i = 0; slows_operators_ && i < kOperatorClassCount; ++i) {
    clock_[kSlowed + 2 * i] += (1 - lost[i]) * dur_ns;
    clock_[kSlowed + 2 * i + 1] += (memory_speed - lost[i]) * dur_ns;
  }
  stream_.advance(dur_ns, memory_speed);
  if (first == kClocks) return;
  const Event event = events_[first].pop();
  clock_[first] = std::max(clock_[first], event.at);
  handle(event);
}

void StepEngine::handle(const Event& event) {
  switch (event.change) {
    case Change::start:
      return start(event.op);
    case Change::reached:
      return condition_met(event.op);
    case Change::misses:
      return begin_misses(event.op);
    case Change::over:
      return finish(event.op);
    case Change::step_over:
      step_over_ = true;
  }
}

void StepEngine::start(int32_t op) {
  const auto index = as_index(op);
  const OpModel& model = models_[index];
  EngineOp& done = result_.ops[index];
  Running& running = running_[index];
  running = {};
  done = {};
  const double missing_bytes = read_operands(index);
  const double alone_ns =
      std::max(model.floor_ns, model.base_ns - (done.hit_bytes - model.base_hit_bytes) *
                                                   model.saved_per_hit_byte_ns);
  done.start_ns = clock_[kReal];
  running.clock = clock_of(model, false);
  if (!model.collective && missing_bytes > 0 && alone_ns > 0) {
    running.missing_bytes = missing_bytes;
    running.hits_ns = std::min(alone_ns, done.hit_bytes * model.hit_byte_ns);
    running.misses_ns = alone_ns - running.hits_ns;
  }
  // What it misses it reads last: until then it leaves the memory to others.
  const bool in_two_parts = running.misses_ns > 0;
  const double first_ns = in_two_parts ? running.hits_ns : alone_ns;
  const double now = clock_[running.clock];
  const bool misses_now =
      in_two_parts && first_ns <= 0 && events_[kReal].first_at() > clock_[kReal];
  if (!misses_now) {
    events_[running.clock].push({now + first_ns, in_two_parts ? Change::misses : Change::over, op});
  }
  for (const int32_t follower : of(index, followers_, first_follower_)) {
    const double at_ns = order_.rules[as_index(follower)].share * alone_ns;
    if (!in_two_parts || at_ns < first_ns) {
      events_[running.clock].push({now + at_ns, Change::reached, follower});
    }
  }
  if (pauses_stream(op)) stream_.pause();
  if (window_of_[index] >= 0) {
    stream_.open_window(as_index(window_of_[index]), step_number_,
                        clock_[kReal] + models_[index].work_ns);
  }
  if (misses_now) begin_misses(op);
}

void StepEngine::begin_misses(int32_t op) {
  const auto index = as_index(op);
  Running& running = running_[index];
  running.clock = clock_of(models_[index], true);
  running.demand_bytes_per_ns = running.missing_bytes / running.misses_ns;
  demand_bytes_per_ns_ += running.demand_bytes_per_ns;
  ++memory_operators_;
  const double now = clock_[running.clock];
  events_[running.clock].push({now + running.misses_ns, Change::over, op});
  const double alone_ns = running.hits_ns + running.misses_ns;
  for (const int32_t follower : of(index, followers_, first_follower_)) {
    const double at_ns = order_.rules[as_index(follower)].share * alone_ns;
    if (at_ns >= running.hits_ns) {
      events_[running.clock].push({now + at_ns - running.hits_ns, Change::reached, follower});
    }
  }
}

// One that lasts and of whose traffic nothing is known, beside a stream that could go on there.
bool StepEngine::pauses_stream(int32_t op) const {
  const auto index = as_index(op);
  return !hardware_.stream.stops_with_window && !models_[index].collective &&
         window_of_[index] < 0 && of(index, accesses_, first_access_).empty();
}

// What the operator finds in the cache and leaves there. Returns the bytes that it must fetch.
double StepEngine::read_operands(size_t op) {
  const std::span<const uint32_t> prefetches = of(op, prefetches_by_consumer_, first_of_consumer_);
  stream_.consumer_starts(static_cast<int32_t>(op), prefetches, step_number_);
  double prefetched_bytes = 0;
  for (const uint32_t prefetch : prefetches) {
    const Prefetch& planned = orders_->prefetches[prefetch];
    const double arrived = stream_.arrived_bytes(prefetch);
    const double hit = cache_.resident_bytes(planned.tensor, planned.begin,
                                             planned.begin + static_cast<int64_t>(arrived));
    result_.arrived_bytes[prefetch] = arrived;
    result_.hit_prefetch_bytes[prefetch] = hit;
    prefetched_bytes += hit;
    fetched_at_[prefetch] = cache_.fetched_at(planned.tensor, planned.begin);
  }
  double missing_bytes = 0, hit_bytes = 0, touched_bytes = 0;
  const std::span<const Access> accesses = of(op, accesses_, first_access_);
  for (const Access& access : accesses) {
    const double hit = cache_.resident_bytes(access.tensor, access.begin, access.end);
    const auto bytes = static_cast<double>(access.end - access.begin);
    if (access.read) hit_bytes += hit;
    missing_bytes += bytes - hit;
    touched_bytes += bytes;
  }
  result_.ops[op].hit_bytes = hit_bytes;
  result_.hit_bytes += hit_bytes;
  // All that the operator touches is one block, as old as its first byte.
  prefetched_bytes = std::min(prefetched_bytes, touched_bytes);
  running_[op].touched_bytes = touched_bytes - prefetched_bytes;
  const double since_bytes = cache_.clock_bytes() - prefetched_bytes;
  for (const Access& access : accesses) {
    cache_.touch(access.tensor, access.begin, access.end, since_bytes);
  }
  return missing_bytes;
}

void StepEngine::finish(int32_t op) {
  const auto index = as_index(op);
  const Running& running = running_[index];
  EngineOp& done = result_.ops[index];
  done.dur_ns = clock_[kReal] - done.start_ns;
  cache_.pass(running.touched_bytes);
  for (const uint32_t prefetch : of(index, prefetches_by_consumer_, first_of_consumer_)) {
    cache_.reread(fetched_at_[prefetch], result_.hit_prefetch_bytes[prefetch]);
  }
  if (running.misses_ns > 0) {
    demand_bytes_per_ns_ -= running.demand_bytes_per_ns;
    if (--memory_operators_ == 0) demand_bytes_per_ns_ = 0;  // no rounding is carried on
  } else if (running.clock == kCollective) {
    result_.collective_slowdown_ns += done.dur_ns - models_[index].base_ns;
  }
  if (window_of_[index] >= 0 && hardware_.stream.stops_with_window) {
    stream_.close_window(as_index(window_of_[index]), step_number_);
  }
  stream_.consumer_ends(op);
  if (pauses_stream(op)) stream_.go_on();
  over_[as_index(place_by_end_[index])] = 1;
  ++finished_;
  release_ready();
  if (finished_ == over_.size()) {
    events_[kReal].push({clock_[kReal] + order_.tail_ns, Change::step_over, 0});
  }
}

// Operators whose predecessors are all over: they start after their gap, or when the operator that
// they start inside has come as far as it had in the recording.
void StepEngine::release_ready() {
  while (ended_prefix_ < over_.size() && over_[ended_prefix_] != 0) ++ended_prefix_;
  while (released_ < by_need_.size()) {
    const int32_t op = by_need_[released_];
    if (as_index(order_.rules[as_index(op)].ended) > ended_prefix_) return;
    ++released_;
    condition_met(op);
  }
}

void StepEngine::condition_met(int32_t op) {
  const auto index = as_index(op);
  if (--conditions_[index] > 0) return;
  events_[kReal].push({clock_[kReal] + order_.rules[index].gap_ns, Change::start, op});
}

}  // namespace preserve
