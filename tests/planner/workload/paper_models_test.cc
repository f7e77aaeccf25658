// SPDX-License-Identifier: Apache-2.0
// The six models of PRESERVE (arXiv 2501.08192) planned from their configurations: what the plan
// saves against the optimum of the flow, and the trends that the paper reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "planner/referee/simulator.h"
#include "planner/search/plan.h"
#include "tests/planner/workload/examples.h"

namespace preserve {
namespace {

using test::example_device;

const char* const kPaperModels[] = {"llama3-8b", "llama3-70b",  "qwen2-7b",
                                    "qwen2-72b", "phi-3-small", "phi-3-medium"};

// The paper's default setting: four devices, 8 bits, batch 4.
WorkloadSpec paper_spec(const std::string& model) {
  return test::example(model, 4, 4, 4096, WeightType::int8);
}

Schedule planned(const WorkloadSpec& spec, const DeviceModel& device) {
  return make_schedule(generate_workload(spec, device).step, device, {.candidates = 8}).schedule;
}

// What the plan saves under the referee, over the optimum of the flow of the step as recorded.
double kept_share(const WorkloadSpec& spec, const DeviceModel& device) {
  const FoldedStep step = generate_workload(spec, device).step;
  const Schedule schedule = planned(spec, device);
  const SimulationResult referee = simulate(step, device, schedule.plan);
  EXPECT_EQ(schedule.plan.strategy, Strategy::flow);
  EXPECT_GE(schedule.plan.prefetch_step_ns,
            std::max({schedule.all_hot_step_ns, schedule.window_limited_step_ns,
                      schedule.cache_limited_step_ns}));
  const PlanProblem problem = build_problem(step, device, {});
  return (referee.baseline_step_ns - referee.step_ns) /
         price_to_ns(solve_flow(problem.flow).profit);
}

bool splits(const WorkloadSpec& spec) {
  const LayerShape& layer = spec.model.layers.front();
  return layer.attention->heads % spec.ranks == 0 && layer.mlp->columns % spec.ranks == 0;
}

// The flow does not know that bytes held across a later window have aged before it, where it
// promises too much, nor streams beside operators whose own bytes are prefetched, where it promises
// too little.
TEST(PaperModels, ThePlanSavesMostOfWhatTheFlowPromises) {
  int confirmed = 0;
  for (const char* device : {"h100-sxm", "a100-80g", "ascend-910b"}) {
    for (const char* model : kPaperModels) {
      for (const int64_t ranks : {2, 4, 8}) {
        WorkloadSpec spec = paper_spec(model);
        spec.ranks = ranks;
        if (!splits(spec)) continue;
        // No published table of this device: an assumption, long enough to fill.
        if (device == std::string("ascend-910b")) spec.allreduce_ns = 60'000;
        EXPECT_GE(kept_share(spec, example_device(device)), 0.66)
            << model << " on " << ranks << " of " << device;
        ++confirmed;
      }
    }
  }
  EXPECT_EQ(confirmed, 51);
}

// 6.94 ms without the changes that all layers make at once.
TEST(PaperModels, LayersChangeTogetherWhereEachAloneLoses) {
  const WorkloadSpec spec = test::example("llama3-70b", 8, 1, 16'384);
  EXPECT_LT(planned(spec, example_device("b200")).plan.prefetch_step_ns, 6'900'000);
}

// The paper's hardware, with allreduces long enough to fill; the length is an assumption.
class PaperTrends : public testing::Test {
 protected:
  double gain(int64_t batch, int64_t context) const {
    WorkloadSpec spec = paper_spec("llama3-8b");
    spec.batch = batch;
    spec.context = context;
    spec.allreduce_ns = 60'000;
    return planned(spec, device_).plan.speedup - 1;
  }
  DeviceModel device_ = example_device("ascend-910b");
};

TEST_F(PaperTrends, TheGainFallsWithTheBatch) {
  std::vector<double> gains;
  for (const int64_t batch : {128, 256, 512}) gains.push_back(gain(batch, 2048));
  EXPECT_TRUE(std::is_sorted(gains.rbegin(), gains.rend())) << testing::PrintToString(gains);
  EXPECT_GT(gains.front(), 1.2 * gains.back());
}

TEST_F(PaperTrends, TheGainGrowsWithTheContextUntilTheCacheIsFull) {
  std::vector<double> gains;
  for (const int64_t context : {1024, 4096, 16384}) gains.push_back(gain(4, context));
  EXPECT_TRUE(std::is_sorted(gains.begin(), gains.end())) << testing::PrintToString(gains);
  const double beyond = gain(4, 262'144);  // 537 MB of KV per layer
  EXPECT_LT(beyond, gains.back()) << testing::PrintToString(gains);
}

}  // namespace
}  // namespace preserve
