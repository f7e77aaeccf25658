// SPDX-License-Identifier: Apache-2.0
// The event loop of the referee: runs the step again and again, with or without a prefetch stream.
// Three clocks make it near linear in operators however many run at once: real time; memory time,
// which slows down while demand reads and prefetches together want more than the memory gives;
// collective time, which slows down with the prefetch traffic. Where the device says that it slows
// other operators too, each of their classes has its own real and memory time. An operator lives on
// one clock at a time, so its end is known when it starts. Times in ns, rates in bytes/ns.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "planner/referee/cache_state.h"
#include "planner/referee/prefetch_stream.h"
#include "planner/referee/recorded_order.h"
#include "planner/schedule/operator_class.h"

namespace preserve {

// How long one operator lasts: base_ns when base_hit_bytes of its reads hit, faster with more.
struct OpModel {
  double base_ns = 0;
  double floor_ns = 0;
  double base_hit_bytes = 0;
  double saved_per_hit_byte_ns = 0;
  double hit_byte_ns = 0;  // that a hit still takes; the hits are read first
  double work_ns = 0;      // at its begin, in which its window stays closed
  bool collective = false;
  std::optional<OperatorClass> operator_class{};
};

struct EngineHardware {
  double memory_bytes_per_ns = 0;
  double slowdown_per_byte_ns = 0;  // of collectives
  OperatorSlowdowns operator_slowdown_per_byte_ns{};
  StreamRates stream;
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
             const EngineHardware& hardware, const std::vector<OpModel>& models);

  // Prefetches by `orders` from the next repetition on; before the first call there are none. True
  // when they fetch for the next step what the orders before did.
  bool follow(const PrefetchOrders& orders);
  // After follow(), where a step waits for its prefetches: what they fetch for the next has
  // arrived.
  void assume_arrived() { stream_.assume_arrived(); }
  // What the cache holds now, to begin with again later; then nothing has been fetched ahead.
  void keep_state() { kept_ = cache_; }
  void restore_state();
  // The next repetition; the cache is carried over. The result is valid until the next call.
  const EngineStep& run();
  // What one repetition leaves to the next: from alike states repetitions are alike.
  struct State {
    std::vector<CacheState::Held> cached;
    std::vector<double> arrived_bytes;  // by prefetch for the next step
  };
  State state() const { return {cache_.held(), stream_.arrived_for_next_step()}; }

 private:
  enum class Change { over, reached, start, misses, step_over };
  struct Event {
    double at = 0;  // on the clock of its queue
    Change change = Change::over;
    int32_t op = 0;  // whose end, whose follower inside it, who starts, or begins to miss
    bool operator>(const Event& other) const {
      if (at != other.at) return at > other.at;
      return change != other.change ? change > other.change : op > other.op;
    }
  };
  // The first apart from the others: mostly there is only one.
  class Events {
   public:
    double first_at() const { return first_.at; }  // infinity: none
    void push(const Event& event) {
      const bool earlier = first_ > event;
      if (first_.at < kNever) rest_.push(earlier ? first_ : event);
      if (earlier) first_ = event;
    }
    Event pop() {
      const Event event = first_;
      first_ = rest_.empty() ? Event{kNever} : rest_.top();
      if (!rest_.empty()) rest_.pop();
      return event;
    }

   private:
    static constexpr double kNever = std::numeric_limits<double>::infinity();
    Event first_{kNever};
    std::priority_queue<Event, std::vector<Event>, std::greater<>> rest_;
  };
  // From kSlowed on a real and a memory time of each class of operators, if any is slowed down.
  enum Clock { kReal, kMemory, kCollective, kSlowed, kClocks = kSlowed + 2 * kOperatorClassCount };
  struct Access {
    int32_t tensor = 0;
    bool read = false;
    int64_t begin = 0, end = 0;
  };
  struct Running {
    Clock clock = kReal;
    double demand_bytes_per_ns = 0;
    double touched_bytes = 0;  // not counting what was prefetched for it
    double missing_bytes = 0, hits_ns = 0, misses_ns = 0;
  };

  void begin();
  bool is_over();
  void advance_to_next_change();
  void handle(const Event& event);
  void start(int32_t op);
  void begin_misses(int32_t op);
  bool pauses_stream(int32_t op) const;
  double read_operands(size_t op);
  // The items of one operator.
  template <typename Item>
  static std::span<const Item> of(size_t op, const std::vector<Item>& items,
                                  const std::vector<uint32_t>& first) {
    return {items.data() + first[op], items.data() + first[op + 1]};
  }
  void finish(int32_t op);
  void release_ready();
  void condition_met(int32_t op);
  double memory_share(double stream_bytes_per_ns) const;
  double slowdown_ns(OperatorClass of) const;
  // The clock of an operator while it reads what hits, or nothing; and while it misses.
  Clock clock_of(const OpModel& model, bool misses) const;

  const RecordedOrder& order_;
  const EngineHardware& hardware_;
  const std::vector<OpModel>& models_;
  const PrefetchOrders* orders_ = nullptr;
  CacheState cache_, kept_;
  PrefetchStream stream_;

  // Those of one operator together, with where they begin by ordinal, and the end.
  std::vector<Access> accesses_;
  std::vector<uint32_t> first_access_;
  std::vector<int32_t> followers_;  // operators that start inside it
  std::vector<uint32_t> first_follower_;
  std::vector<int32_t> by_need_;       // ordinals by StartRule::ended
  std::vector<int32_t> place_by_end_;  // by ordinal: index into RecordedOrder::by_end
  // By ordinal: what must happen before it starts.
  std::vector<uint8_t> all_conditions_;
  std::vector<int32_t> window_of_;  // by ordinal: index into PrefetchOrders::windows or -1
  std::vector<uint32_t> prefetches_by_consumer_;  // indices, those of one consumer together
  std::vector<uint32_t> first_of_consumer_;       // by ordinal, and the end

  int64_t step_number_ = -1;
  bool slows_operators_ = false;  // else the clocks from kSlowed on stand still
  double clock_[kClocks] = {};
  Events events_[kClocks];
  std::vector<Running> running_;
  std::vector<double>
      fetched_at_;  // by prefetch, in bytes of the cache's clock, as its reader began
  std::vector<uint8_t> over_, conditions_;
  size_t ended_prefix_ = 0, released_ = 0, finished_ = 0;
  size_t memory_operators_ = 0;
  double demand_bytes_per_ns_ = 0;
  bool step_over_ = false;
  EngineStep result_;
};

}  // namespace preserve
