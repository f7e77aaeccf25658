// SPDX-License-Identifier: Apache-2.0
// The six models of PRESERVE (arXiv 2501.08192) planned from their configurations: the optimum of
// the flow against the referee's saving, and the trends that the paper reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "planner/referee/simulator.h"
#include "planner/search/plan.h"
#include "planner/workload/workload.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

const fs::path kExamples = fs::path(PRESERVE_SOURCE_DIR) / "examples";

const char* const kPaperModels[] = {"llama3-8b", "llama3-70b",  "qwen2-7b",
                                    "qwen2-72b", "phi-3-small", "phi-3-medium"};

DeviceModel example_device(const std::string& name) {
  return load_device(kExamples / "devices" / (name + ".json"));
}

// The paper's default setting: four devices, 8 bits, batch 4.
WorkloadSpec paper_spec(const std::string& model) {
  WorkloadSpec spec;
  spec.model = load_model_config(kExamples / "models" / (model + ".json"));
  spec.ranks = 4;
  spec.batch = 4;
  spec.context = 4096;
  spec.type = WeightType::int8;
  return spec;
}

Schedule planned(const WorkloadSpec& spec, const DeviceModel& device) {
  PlanOptions options;
  options.candidates = 8;
  return make_schedule(make_workload(spec, device), device, options).schedule;
}

// What the referee finds of the chosen plan's objective.
double kept_share(const WorkloadSpec& spec, const DeviceModel& device) {
  const FoldedStep step = make_workload(spec, device);
  const Schedule schedule = planned(spec, device);
  const SimulationResult referee = simulate(step, device, schedule.plan);
  EXPECT_EQ(schedule.plan.strategy, Strategy::flow);
  EXPECT_GT(schedule.plan.objective_ns, 0);
  return (referee.baseline_step_ns - referee.step_ns) /
         static_cast<double>(schedule.plan.objective_ns);
}

bool splits(const WorkloadSpec& spec) {
  const LayerShape& layer = spec.model.layers.front();
  return layer.attention->heads % spec.ranks == 0 && layer.mlp->columns % spec.ranks == 0;
}

// The referee confirms the objective within 2 %, and the referee shares no
// model code with the flow.
TEST(PaperModels, TheRefereeConfirmsTheObjective) {
  int confirmed = 0;
  for (const char* device : {"h100-sxm", "a100-80g", "ascend-910b"}) {
    for (const char* model : kPaperModels) {
      for (const int64_t ranks : {2, 4, 8}) {
        WorkloadSpec spec = paper_spec(model);
        spec.ranks = ranks;
        if (!splits(spec)) continue;
        // No published table of this device: an assumption, long enough to fill.
        if (device == std::string("ascend-910b")) spec.allreduce_ns = 60'000;
        EXPECT_NEAR(kept_share(spec, example_device(device)), 1, 0.02)
            << model << " on " << ranks << " of " << device;
        ++confirmed;
      }
    }
  }
  EXPECT_EQ(confirmed, 51);
}

// Fuller caches: plans reach into the soft part of the survival curve, which the flow does not
// know; its objective is too high there, by up to 4 %.
TEST(PaperModels, FullCachesKeepLess) {
  for (const char* model : kPaperModels) {
    for (const char* device : {"h200", "b200"}) {
      EXPECT_NEAR(kept_share(paper_spec(model), example_device(device)), 1, 0.05)
          << model << " on " << device;
    }
  }
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
  for (const int64_t batch : {64, 128, 256, 512}) gains.push_back(gain(batch, 2048));
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
