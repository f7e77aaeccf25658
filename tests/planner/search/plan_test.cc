// SPDX-License-Identifier: Apache-2.0
// Whole plans: properties that hold for any step and device, bounds, verdicts, the strategies.
#include "planner/search/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>
#include <list>
#include <map>
#include <string>

#include "planner/search/bounds.h"
#include "planner/search/decompose.h"
#include "planner/search/explain.h"
#include "planner/search/reasons.h"
#include "tests/planner/synthetic_step.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/devices.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::gpu_device;
using test::random_case;
using test::random_device;
using test::random_step;
using test::synthetic_step;
using testing::HasSubstr;

int64_t optimum(const FoldedStep& step, const DeviceModel& device,
                const ProblemOptions& options = {}) {
  return solve_flow(build_problem(step, device, options).flow).profit;
}

RC_GTEST_PROP(PlanProperty, BoundsAreOrdered, (uint64_t seed)) {
  const auto [step, device] = random_case(seed);
  const PlanProblem problem = build_problem(step, device, {});
  const Referee referee(step, device, {});
  const StepBounds bounds =
      step_bounds(step, device, problem, referee, test::ordinals_of(problem.windows));
  RC_ASSERT(bounds.all_hot_ns <= bounds.window_limited_ns);
  RC_ASSERT(bounds.all_hot_ns <= bounds.cache_limited_ns);
  RC_ASSERT(bounds.window_limited_ns <= problem.baseline_step_ns + 1e-3);
  RC_ASSERT(bounds.cache_limited_ns <= problem.baseline_step_ns + 1e-3);
}

// By hand: between two windows the cache holds its budget, and the stream moves its rate times the
// window.
TEST(Plan, BoundsKeepOneLimit) {
  test::TinyStep tiny;
  tiny.collective(10'000);
  tiny.reader("gemm", 200'000, 21'000);
  const DeviceModel device = test::core_device(40'000);
  for (const double work_ns : {0.0, 4'000.0}) {
    FoldedStep step = *tiny;
    step.ops[0].work_ns = work_ns;
    const PlanProblem problem = build_problem(step, device, {});
    const Referee referee(step, device, {});
    const StepBounds bounds = step_bounds(step, device, problem, referee, {0});
    const auto start_ns = static_cast<double>(device.methods[0].start_latency_ns);
    const double moved = (10'000 - work_ns - start_ns) * 10;
    EXPECT_NEAR(bounds.all_hot_ns, 31'000 - 200'000 * test::kSavedPerByteNs, 1);
    EXPECT_NEAR(bounds.window_limited_ns, 31'000 - moved * test::kSavedPerByteNs, 1);
    EXPECT_NEAR(bounds.cache_limited_ns, 31'000 - 40'000 * test::kSavedPerByteNs, 1);
  }
}

RC_GTEST_PROP(PlanProperty, APlanFetchesWhatFlows, (uint64_t seed)) {
  const auto [step, device] = random_case(seed);
  const SolvedProblem solved = solve(build_problem(step, device, {}));
  const PlanProblem& problem = solved.problem;
  const Decomposition result = decompose(step, solved);
  std::vector<int64_t> supplied(problem.windows.size(), 0), consumed(problem.consumers.size(), 0);
  for (size_t i = 0; i < solved.optimum.supplied.size(); ++i) {
    supplied[static_cast<size_t>(problem.supply_window[i])] += solved.optimum.supplied[i];
  }
  for (size_t i = 0; i < solved.optimum.consumed.size(); ++i) {
    consumed[static_cast<size_t>(problem.demand_consumer[i])] += solved.optimum.consumed[i];
  }
  int64_t not_supplied = 0, not_consumed = 0;
  for (size_t i = 0; i < result.amounts.size(); ++i) {
    std::pair<bool, int32_t> last{false, -1};
    for (const Share& share : result.amounts[i]) {
      RC_ASSERT(share.blocks > 0);
      supplied[i] -= share.blocks;
      consumed[static_cast<size_t>(share.consumer)] -= share.blocks;
      // In the order of reading: this step's consumers by ordinal, then the next step's.
      const int32_t ordinal = problem.consumers[static_cast<size_t>(share.consumer)].ordinal;
      const auto place = std::pair(ordinal <= result.windows[i], ordinal);
      RC_ASSERT(last < place);
      last = place;
    }
    RC_ASSERT(supplied[i] >= 0);
    not_supplied += supplied[i];
  }
  for (const int64_t blocks : consumed) {
    RC_ASSERT(blocks >= 0);
    not_consumed += blocks;
  }
  RC_ASSERT(not_supplied == result.dropped_blocks);
  RC_ASSERT(not_consumed == result.dropped_blocks);
}

RC_GTEST_PROP(PlanProperty, MoreBudgetNeverHurts, (uint64_t seed)) {
  const auto [step, device] = random_case(seed);
  ProblemOptions less, more;
  less.budget_bytes = *rc::gen::inRange<int64_t>(kBlockBytes, device.cache_bytes);
  more.budget_bytes = *rc::gen::inRange<int64_t>(*less.budget_bytes, device.cache_bytes);
  RC_ASSERT(optimum(step, device, less) <= optimum(step, device, more));
}

RC_GTEST_PROP(PlanProperty, LongerWindowsNeverHurt, (uint64_t seed)) {
  auto [step, device] = random_case(seed);
  // A stream that outlasts its collective moves more during a longer one, at a cost.
  if (device.kind == "gpu") device.slowdown_per_byte_ns = 0;
  ProblemOptions shorter, longer;
  shorter.link_latency_ns = *rc::gen::inRange(0, 100'000);
  longer.link_latency_ns = *rc::gen::inRange<int64_t>(shorter.link_latency_ns, 200'000);
  RC_ASSERT(optimum(step, device, shorter) <= optimum(step, device, longer));
}

RC_GTEST_PROP(PlanProperty, ScalingAllTimesScalesTheSaving, (uint64_t seed)) {
  auto [step, device] = random_case(seed);
  const int64_t before = optimum(step, device);
  const double k = *rc::gen::element(2, 4, 8);
  for (StepOp& op : step.ops) {
    op.start_ns *= k;
    op.dur_ns *= k;
    op.mad_ns *= k;
    op.work_ns *= k;
  }
  step.wall_ns *= k;
  device.memory_bandwidth_bytes_per_s /= k;
  device.cache_read_bandwidth_bytes_per_s /= k;
  device.slowdown_per_byte_ns *= k;
  device.op_floor_ns *= static_cast<int64_t>(k);
  for (PrefetchMethod& method : device.methods) {
    method.bandwidth_bytes_per_s /= k;
    method.start_latency_ns *= static_cast<int64_t>(k);
  }
  const auto scaled = static_cast<double>(optimum(step, device));
  // Prices and capacities are rounded to integers: a block per window, 1e-4 of the price.
  const double slack =
      1e-3 * scaled + k * 4096 * static_cast<double>(kPriceScale * step.ops.size());
  RC_ASSERT(std::abs(scaled - k * static_cast<double>(before)) <= slack);
}

RC_GTEST_PROP(PlanProperty, ScalingAllSizesScalesTheBytes, (uint64_t seed)) {
  DeviceModel device = gpu_device();
  const int64_t k = *rc::gen::element(2, 4);
  device.slowdown_per_byte_ns = 0;
  device.cache_budget_bytes = 32 << 20;
  const FoldedStep step = synthetic_step({.seed = seed});
  const auto fetched = [](const FoldedStep& of, const DeviceModel& on) {
    const PlanProblem problem = build_problem(of, on, {});
    int64_t blocks = 0;
    for (const int64_t supplied : solve_flow(problem.flow).supplied) blocks += supplied;
    return blocks;
  };
  const int64_t before = fetched(step, device);
  FoldedStep large = step;
  for (StepTensor& tensor : large.tensors) tensor.bytes *= k;
  for (StepOp& op : large.ops) {
    if (op.collective) op.collective->bytes = *op.collective->bytes * k;
    for (StepAccess& access : op.accesses) {
      access.bytes *= k;
      access.offset_bytes *= k;
    }
  }
  device.cache_bytes *= k;
  device.cache_budget_bytes *= k;
  device.memory_bandwidth_bytes_per_s *= static_cast<double>(k);
  device.cache_read_bandwidth_bytes_per_s *= static_cast<double>(k);
  device.methods[0].bandwidth_bytes_per_s *= static_cast<double>(k);
  RC_ASSERT(before > 0);
  RC_ASSERT(std::abs(fetched(large, device) - k * before) <=
            k * static_cast<int64_t>(step.ops.size()));
}

RC_GTEST_PROP(PlanProperty, SameInputSameBytesAndTheyCanBeRead, (uint64_t seed)) {
  const auto [step, device] = random_case(seed);
  Schedule schedule = make_schedule(step, device, {}).schedule;
  RC_ASSERT(to_json(schedule) == to_json(make_schedule(step, device, {}).schedule));
  schedule.trace_path = "trace.db";
  schedule.trace_sha256 = std::string(64, '0');
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "schedule.json") << to_json(schedule);
  RC_ASSERT(to_json(load_schedule(folder / "schedule.json")) == to_json(schedule));
}

// A cache that forgets the least recently used block first, in blocks.
class LruCache {
 public:
  explicit LruCache(int64_t blocks) : room_(blocks) {}
  bool touch(int64_t block) {
    const auto found = where_.find(block);
    const bool hit = found != where_.end();
    if (hit) order_.erase(found->second);
    order_.push_front(block);
    where_[block] = order_.begin();
    if (static_cast<int64_t>(order_.size()) > room_) {
      where_.erase(order_.back());
      order_.pop_back();
    }
    return hit;
  }

 private:
  int64_t room_;
  std::list<int64_t> order_;
  std::map<int64_t, std::list<int64_t>::iterator> where_;
};

// The justification of edge capacities: what a plan holds no longer than until the next window is
// found by its reader in a true LRU cache of the budget's size, whatever streams by in between.
TEST(Plan, WhatIsHeldWithinAWindowHitsInAnLruCache) {
  int64_t checked = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    FoldedStep step = random_step(seed);
    for (StepTensor& tensor : step.tensors) tensor.bytes = tensor.bytes / kBlockBytes * kBlockBytes;
    step.wall_ns = 0;
    for (StepOp& op : step.ops) {
      if (op.kind != OpKind::collective) op.dur_ns *= 1000;  // long enough: bytes are never clamped
      op.start_ns = step.wall_ns;
      step.wall_ns += op.dur_ns;
      for (StepAccess& access : op.accesses) {
        access.bytes = step.tensors[static_cast<size_t>(access.tensor)].bytes;
      }
    }
    DeviceModel device = random_device(seed);
    device.methods[0].placement = "consumer";  // all is there when the window ends
    const SolvedProblem solved = solve(build_problem(step, device, {}));
    const PlanProblem& problem = solved.problem;
    const Decomposition optimum = decompose(step, solved);
    const std::vector<PlannedWindow> windows =
        WindowRing(step, problem, optimum.windows).planned_windows(optimum.amounts);
    std::map<std::string, int64_t> first_block;
    for (size_t i = 0; i < step.tensors.size(); ++i) {
      first_block[step.tensors[i].name] = static_cast<int64_t>(i) << 32;
    }
    const auto block_of = [&](const PlannedPrefetch& prefetch) {
      return first_block[prefetch.tensor] + prefetch.offset_bytes / kBlockBytes;
    };
    LruCache cache(problem.budget_bytes / kBlockBytes);
    std::map<int32_t, std::vector<const PlannedPrefetch*>> due;
    int64_t stranger = int64_t{1} << 62;
    size_t next_window = 0;
    for (const StepOp& op : step.ops) {
      const bool opens = next_window < windows.size() && windows[next_window].ordinal == op.ordinal;
      if (opens) {
        due.clear();
        for (const PlannedPrefetch& prefetch : windows[next_window++].prefetches) {
          for (int64_t b = 0; b < prefetch.length_bytes / kBlockBytes; ++b) {
            cache.touch(block_of(prefetch) + b);
          }
          if (!prefetch.next_step) due[prefetch.consumer_ordinal].push_back(&prefetch);
        }
      }
      for (const PlannedPrefetch* prefetch : due[op.ordinal]) {
        for (int64_t b = 0; b < prefetch->length_bytes / kBlockBytes; ++b, ++checked) {
          ASSERT_TRUE(cache.touch(block_of(*prefetch) + b))
              << "seed " << seed << " operator " << op.ordinal << " " << prefetch->tensor;
        }
      }
      for (const StepAccess& access : op.accesses) {
        const std::string& name = step.tensors[static_cast<size_t>(access.tensor)].name;
        for (int64_t b = 0; b < access.bytes / kBlockBytes; ++b) cache.touch(first_block[name] + b);
      }
      if (op.kind == OpKind::collective) {
        for (int64_t b = 0; b < *op.collective->bytes / kBlockBytes; ++b) cache.touch(++stranger);
      }
    }
  }
  EXPECT_GT(checked, 2'000);
}

TEST(Plan, FixedCostsSwitchWindowsOff) {
  const FoldedStep step = synthetic_step({.noise = 0.8});  // windows of very different worth
  const auto used = [&](int64_t cost_ns) {
    DeviceModel device = gpu_device();
    device.window_cost_ns = cost_ns;
    return used_windows(make_schedule(step, device, {}).schedule.plan);
  };
  EXPECT_GE(used(0), 4);
  EXPECT_LT(used(5'000), used(0));
  EXPECT_EQ(used(1'000'000), 0);
}

TEST(Plan, TheDevicesFixedCostsAreInThePrediction) {
  DeviceModel device = gpu_device();
  const FoldedStep step = synthetic_step();
  const Plan free = make_schedule(step, device, {}).schedule.plan;
  device.window_cost_ns = 500;
  const Plan costly = make_schedule(step, device, {}).schedule.plan;
  EXPECT_GT(costly.prefetch_step_ns, free.prefetch_step_ns);
  EXPECT_THAT(costly.reasons, testing::Contains(HasSubstr("fixed cost per window")));
}

TEST(Plan, SmallPiecesAreLeftOut) {
  for (const PlannedWindow& window :
       make_schedule(synthetic_step(), gpu_device(), {.min_prefetch_bytes = 1 << 20})
           .schedule.plan.windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches)
      EXPECT_GE(prefetch.length_bytes, 1 << 20);
  }
}

TEST(Plan, CandidatesDifferAndAreAsManyAsAsked) {
  for (const int wanted : {1, 3, 5}) {
    const Schedule schedule =
        make_schedule(synthetic_step(), gpu_device(), {.candidates = wanted}).schedule;
    EXPECT_EQ(static_cast<int>(schedule.candidates.size()), wanted - 1);
    for (const Plan& candidate : schedule.candidates) {
      EXPECT_GE(candidate.prefetch_step_ns, schedule.plan.prefetch_step_ns);
    }
  }
}

TEST(Plan, SaysWhyItDoesNothing) {
  const auto reason = [](const DeviceModel& device, const PlanOptions& options = {}) {
    const Schedule schedule = make_schedule(synthetic_step(), device, options).schedule;
    EXPECT_EQ(schedule.plan.verdict, PlanVerdict::do_nothing);
    EXPECT_EQ(schedule.plan.strategy, Strategy::none);
    EXPECT_TRUE(schedule.plan.windows.empty());
    EXPECT_FALSE(schedule.plan.reasons.empty());
    for (size_t i = 1; i < schedule.plan.reasons.size(); ++i) {  // of the plan not worth it
      EXPECT_THAT(schedule.plan.reasons[i], testing::StartsWith("the flow promises"));
    }
    return schedule.plan.reasons.empty() ? "" : schedule.plan.reasons.front();
  };
  DeviceModel device = gpu_device();
  device.methods.clear();
  EXPECT_THAT(reason(device), HasSubstr("no prefetch method"));
  device = gpu_device();
  device.methods[0].start_latency_ns = 1'000'000;
  EXPECT_THAT(reason(device), HasSubstr("no window is long enough"));
  device = gpu_device();
  device.cache_bytes = device.cache_budget_bytes = int64_t{1} << 40;
  EXPECT_THAT(reason(device), HasSubstr("still cached"));
  device = gpu_device();
  device.cache_budget_bytes = 0;
  EXPECT_THAT(reason(device), HasSubstr("no cache"));
  device = gpu_device();
  device.cache_read_bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s;
  EXPECT_THAT(reason(device), HasSubstr("no operator gets faster"));
  device = gpu_device();
  device.cache_read_bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s * 1.001;
  device.slowdown_per_byte_ns = 0;
  EXPECT_THAT(reason(device), HasSubstr("below 0.5 %"));
  device = gpu_device();
  device.slowdown_per_byte_ns = 1;
  EXPECT_THAT(reason(device), HasSubstr("costs more than it saves"));
  EXPECT_THAT(reason(gpu_device(), {.strategy = Strategy::none}), HasSubstr("strategy none"));
}

TEST(Plan, WarnsOfWhatItCannotKnow) {
  FoldedStep step = synthetic_step();
  step.ops[1].accesses.clear();
  step.ops[13].accesses[0].confidence = 0.5;
  const Schedule schedule = make_schedule(step, gpu_device(), {}).schedule;
  EXPECT_THAT(schedule.warnings, testing::Contains(HasSubstr("no recorded bytes")));
  EXPECT_THAT(schedule.warnings, testing::Contains(HasSubstr("low confidence")));
}

TEST(Plan, WarnsOfImplausibleGainsAndUselessOptions) {
  DeviceModel device = gpu_device();
  device.slowdown_per_byte_ns = 0;
  device.cache_read_bandwidth_bytes_per_s = 1e15;  // a dream of a cache
  EXPECT_THAT(make_schedule(synthetic_step(), device, {}).schedule.warnings,
              testing::Contains(HasSubstr("suspicious")));
  device = random_device(1);
  device.kind = "cpu";
  const PlanOptions idle{.problem = {.windows = WindowsMode::idle}};
  EXPECT_THAT(make_schedule(random_step(1), device, idle).schedule.warnings,
              testing::Contains(HasSubstr("--windows idle changes nothing")));
}

TEST(Plan, GivenAPlanItsHitsLeaveTheMemoryToTheStream) {
  const FoldedStep step = synthetic_step();
  const DeviceModel device = gpu_device();
  const PlanProblem first = build_problem(step, device, {});
  std::vector<int64_t> hits(step.ops.size(), 0);
  for (const PlanConsumer& consumer : first.consumers) {
    hits[static_cast<size_t>(consumer.ordinal)] = consumer.blocks * kBlockBytes;
  }
  const PlanProblem second = build_problem_given(step, device, {}, {hits, {}});
  // Operators that read nothing from memory leave it to the stream at no cost.
  EXPECT_GT(solve_flow(second.flow).profit, solve_flow(first.flow).profit);
  EXPECT_EQ(second.room_bytes, first.room_bytes);
  const Planned planned = make_schedule(step, device, {});
  EXPECT_EQ(planned.schedule.plan.objective_ns,
            std::llround(price_to_ns(planned.solved->optimum.profit)));
}

TEST(Plan, SaysWhereFlowAndSimulatorDiffer) {
  const Saving flow{100'000, 0, 10'000, 0};
  EXPECT_EQ(where_they_differ(flow, {100'000, 0, 10'500, 0}), "");
  EXPECT_THAT(where_they_differ(flow, {98'000, 5'000, 10'100, 0}),
              testing::AllOf(HasSubstr("less by bytes evicted before they are read, "),
                             HasSubstr("less by what is fetched and read"),
                             testing::Not(HasSubstr("beside"))));
  EXPECT_THAT(where_they_differ(flow, {100'000, 0, 6'000, 0}),
              HasSubstr("more by what runs beside"));
  // Where operators run one after another its terms explain what the simulator finds.
  const FoldedStep step = synthetic_step();
  const DeviceModel device = gpu_device();
  Referee referee(step, device, {});
  const Plan plan = make_schedule(step, device, {}).schedule.plan;
  const Saving found = saving_of(referee, referee.orders_of(plan), referee.judge(plan));
  EXPECT_GT(found.hits_ns, 0);
  EXPECT_LE(std::abs(found.waiting_ns), 0.02 * found.hits_ns);
}

TEST(Plan, ExplainsEveryWindow) {
  const FoldedStep step = synthetic_step();
  const Schedule schedule = make_schedule(step, gpu_device(), {}).schedule;
  const std::string text = explain(step, schedule);
  for (const PlannedWindow& window : schedule.plan.windows)
    EXPECT_THAT(text, HasSubstr(window.name));
  EXPECT_THAT(text, HasSubstr("limited by"));
  EXPECT_THAT(text, HasSubstr("gate_up.weight"));
}

TEST(Plan, ExplainsWhyWindowsAreNotFullerAndWhatWouldGain) {
  const FoldedStep step = synthetic_step();
  DeviceModel device = gpu_device();
  device.methods[0].bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s / 16;
  const Schedule schedule = make_schedule(step, device, {}).schedule;
  const Sensitivity found = sensitivity(step, device, {}, schedule);
  ASSERT_EQ(found.not_fuller.size(), schedule.plan.windows.size());
  // Slow prefetches: the windows limit, so a faster stream gains and a larger cache does not.
  EXPECT_THAT(found.not_fuller, testing::Contains(HasSubstr("all that arrives")));
  ASSERT_FALSE(found.changes.empty());
  EXPECT_THAT(found.changes.front().change, HasSubstr("twice the prefetch rate"));
  device.methods[0].bandwidth_bytes_per_s *= 2;
  EXPECT_EQ(make_schedule(step, device, {}).schedule.plan.prefetch_step_ns,
            schedule.plan.prefetch_step_ns - found.changes.front().gained_ns);
  const std::string text = explain(step, schedule, found);
  EXPECT_THAT(text, testing::AllOf(HasSubstr("not fuller: asks for all"),
                                   HasSubstr("planned again with"), HasSubstr("prefetch rate")));
}

TEST(Plan, ExplainsThatTheCacheIsFull) {
  const FoldedStep step = synthetic_step();
  const PlanOptions small{.problem = {.budget_bytes = 1 << 20}};
  const Schedule schedule = make_schedule(step, gpu_device(), small).schedule;
  ASSERT_EQ(schedule.plan.strategy, Strategy::flow);
  const Sensitivity found = sensitivity(step, gpu_device(), small, schedule);
  EXPECT_THAT(found.not_fuller, testing::Contains(HasSubstr("the cache is full until operator")));
  ASSERT_FALSE(found.changes.empty());
  EXPECT_THAT(found.changes.front().change, HasSubstr("one more MiB of cache"));
}

}  // namespace
}  // namespace preserve
