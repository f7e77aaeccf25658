// SPDX-License-Identifier: Apache-2.0
// The referee: predicts what a plan does to the step, operator by operator. It shares no model code
// with the strategies that make plans, so it judges all of them, and any schedule.json, alike.
// Event by event: operators start in the recorded order with the recorded gaps and overlaps, demand
// reads and prefetches share the memory bandwidth, the cache forgets along the device's survival
// curve, collectives are lengthened by the traffic during them, other operators by what the device
// says of their class. The step repeats until it is steady, because the last window of a step
// prefetches for the next. Model and limits: docs/simulator.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/referee/step_engine.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"

namespace preserve {

struct SimulationOptions {
  std::string method, placement;  // PrefetchMethod of the device; empty: its first
  int64_t link_latency_ns = 0;    // stand-in network link: added to every collective
};

struct SimulatedOp {
  double start_ns = 0;  // from the start of the step, with the plan
  double dur_ns = 0;    // with the plan, contention included
  double baseline_dur_ns = 0;
  double hit_bytes = 0, baseline_hit_bytes = 0;  // expected bytes of its reads found in the cache
};

// What became of one prefetch; the four sizes add up: length = arrived + late, arrived = hit +
// evicted.
struct SimulatedPrefetch {
  int32_t window = 0, position = 0;  // plan.windows[window].prefetches[position]
  double arrived_bytes = 0;          // in the cache when the consumer started
  double late_bytes = 0;             // not yet: the consumer fetches them itself, and only it does
  double hit_bytes = 0;              // of the arrived ones, expected to be still cached
  double evicted_bytes = 0;          // of the arrived ones, expected to be evicted again
  double saved_ns = 0;               // realised saving of the consumer, shared by bytes hit
};

struct SimulationResult {
  double baseline_step_ns = 0;        // recorded step, link included
  double step_ns = 0;                 // with the plan
  double all_hot_step_ns = 0;         // every read of every operator hits: no plan gets below
  double collective_slowdown_ns = 0;  // sum over the collectives of the step
  double arrived_bytes = 0, late_bytes = 0, evicted_bytes = 0;  // sums over the prefetches
  double redundant_bytes = 0;                                   // prefetched although still cached
  bool steady = true;            // false: the step time kept changing; step_ns is then a mean
  std::vector<SimulatedOp> ops;  // by ordinal
  std::vector<SimulatedPrefetch> prefetches;  // in plan order
};

// One step on one device, prepared once to judge many plans. Each plan starts from the steady state
// of the recorded step, since a cache may have more than one. Step and device must outlive it.
class Referee {
 public:
  // Throws input_error when the step is empty or has impossible numbers, and when the device lacks
  // a rate or the method.
  Referee(const FoldedStep& step, const DeviceModel& device, const SimulationOptions& options);

  double baseline_step_ns() const { return baseline_step_ns_; }
  double all_hot_step_ns() const { return all_hot_step_ns_; }
  const std::vector<OpModel>& models() const { return models_; }  // by ordinal
  const EngineHardware& hardware() const { return hardware_; }

  // The orders of a plan. Throws input_error when the plan names operators or tensors that the
  // step does not have, or the device has no method to prefetch with.
  PrefetchOrders orders_of(const Plan& plan) const;

  // Follows `orders`, which must stay alive until the next call, until the step is steady.
  struct Steady {
    double step_ns = 0;
    bool steady = false;               // false: step_ns is a mean of steps that kept changing
    const EngineStep* last = nullptr;  // until the next call
  };
  Steady run(const PrefetchOrders& orders);
  // The same from one repetition after the orders before, where those were steady: what differs
  // is how much older bytes that survive from the last step are. Where the orders before fetched
  // something else for the next step, `exactly` runs the repetition that fetches it first; without,
  // and where a step waits for its prefetches, it is taken to have arrived.
  Steady glance(const PrefetchOrders& orders, bool exactly);

  SimulationResult judge(const Plan& plan) { return judge(plan, orders_of(plan)); }
  // `orders`: those of the plan.
  SimulationResult judge(const Plan& plan, const PrefetchOrders& orders);

 private:
  Steady run_until_steady();
  double run_all_hot() const;

  const FoldedStep& step_;
  RecordedOrder order_;
  const PrefetchMethod* method_;  // of the device; nullptr: none
  EngineHardware hardware_;
  std::vector<OpModel> models_;
  const DeviceModel& device_;
  std::unordered_map<std::string_view, int32_t> tensors_;  // of the step, by name
  StepEngine engine_;
  double baseline_step_ns_ = 0, all_hot_step_ns_ = 0;
  bool steady_ = false;  // after the last run
};

// Judges one plan from the recorded step. Throws as the referee does.
SimulationResult simulate(const FoldedStep& step, const DeviceModel& device, const Plan& plan,
                          const SimulationOptions& options = {});

}  // namespace preserve
