// SPDX-License-Identifier: Apache-2.0
// The event loop of the referee: runs the step again and again, with or without a prefetch stream.
// Three clocks make it near linear in operators however many run at once: real time; memory time,
// which slows down while demand reads and prefetches together want more than the memory gives;
// collective time, which slows down with the prefetch traffic. An operator lives on one of them, so
// its end is known when it starts. Times in ns, rates in bytes/ns.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

#include "planner/referee/cache_state.h"
#include "planner/referee/prefetch_stream.h"
#include "planner/referee/recorded_order.h"

namespace preserve {

// How long one operator lasts: base_ns when base_hit_bytes of its reads hit, faster with more.
struct OpModel {
  double base_ns = 0;
  double floor_ns = 0;
  double base_hit_bytes = 0;
  double saved_per_hit_byte_ns = 0;
  bool collective = false;
};

struct EngineHardware {
  double memory_bytes_per_ns = 0;
  double slowdown_per_byte_ns = 0;
};

struct EngineOp {
  double start_ns = 0, dur_ns = 0;
  double hit_bytes = 0;
};

struct EngineStep {
  double step_ns = 0;
  double hit_bytes = 0;               // sum over the operators
  double collective_slowdown_ns = 0;  // sum over the collectives
  double redundant_bytes = 0;         // of the prefetch stream
  std::vector<EngineOp> ops;
  std::vector<double> arrived_bytes, hit_prefetch_bytes;  // by prefetch, at its consumer's start
};

class StepEngine {
 public:
  // The references must outlive the engine; the models may change between two runs.
  StepEngine(const FoldedStep& step, const RecordedOrder& order, const DeviceModel& device,
             const EngineHardware& hardware, const std::vector<OpModel>& models,
             const PrefetchOrders& prefetches);

  EngineStep run();  // the next repetition; cache and prefetches under way are carried over
  void start_prefetching() { prefetching_ = true; }  // until then windows stay shut

 private:
  enum class Change { over, reached, start, step_over };
  struct Event {
    double at = 0;  // on the clock of its queue
    Change change = Change::over;
    int32_t op = 0;  // whose end, whose follower inside it, or who starts
    bool operator>(const Event& other) const;
  };
  using Events = std::priority_queue<Event, std::vector<Event>, std::greater<>>;
  enum Clock { kReal, kMemory, kCollective, kClocks };
  struct Running {
    Clock clock = kReal;
    double demand_bytes_per_ns = 0;
    double touched_bytes = 0;  // not counting what was prefetched for it
  };

  void begin();
  bool is_over();
  void advance_to_next_change();
  void handle(const Event& event);
  void start(int32_t op);
  double read_operands(size_t op);
  void finish(int32_t op);
  void release_ready();
  void condition_met(int32_t op);
  double memory_share() const;

  const FoldedStep& step_;
  const RecordedOrder& order_;
  const EngineHardware& hardware_;
  const std::vector<OpModel>& models_;
  const PrefetchOrders& orders_;
  CacheState cache_;
  PrefetchStream stream_;

  std::vector<int32_t> by_need_;                 // ordinals by StartRule::ended
  std::vector<int32_t> place_by_end_;            // by ordinal: index into RecordedOrder::by_end
  std::vector<std::vector<int32_t>> followers_;  // by ordinal: operators that start inside it
  std::vector<int32_t> window_of_;  // by ordinal: index into PrefetchOrders::windows or -1
  std::vector<std::vector<size_t>> prefetches_of_;  // by ordinal of the consumer

  bool prefetching_ = false;
  int64_t step_number_ = -1;
  double clock_[kClocks] = {};
  Events events_[kClocks];
  std::vector<Running> running_;
  std::vector<uint8_t> over_, conditions_;
  size_t ended_prefix_ = 0, released_ = 0, finished_ = 0;
  size_t memory_operators_ = 0;
  double demand_bytes_per_ns_ = 0;
  bool step_over_ = false;
  EngineStep result_;
};

}  // namespace preserve
