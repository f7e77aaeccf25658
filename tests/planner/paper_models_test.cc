// SPDX-License-Identifier: Apache-2.0
// The six models of PRESERVE (arXiv 2501.08192) planned from their configurations: the optimum of
// the flow against the referee's saving, and the trends that the paper reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "planner/plan.h"
#include "planner/simulator.h"
#include "planner/workload.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

const fs::path kExamples = fs::path(PRESERVE_SOURCE_DIR) / "examples";

const char* const kPaperModels[] = {"llama3-8b", "llama3-70b",  "qwen2-7b",
                                    "qwen2-72b", "phi-3-small", "phi-3-medium"};

DeviceModel example_device(const std::string& name) {
  return load_device(kExamples / "devices" / (name + ".json"));
}

// The paper's setting where nothing else is said: four devices, 8 bits, batch 4.
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

// Of the flow's plans the one that the referee likes best.
Plan flow_plan(const Schedule& schedule) {
  if (schedule.plan.strategy == "flow") return schedule.plan;
  for (const Plan& plan : schedule.candidates) {
    if (plan.strategy == "flow") return plan;  // candidates are sorted
  }
  throw std::runtime_error("no plan of the flow");
}

// What the bytes save: the sum that the plan predicts against what the operators gain in the
// referee. Returns what is left after the collectives' slowdown, as a share of the flow's optimum.
double expect_confirmed(const WorkloadSpec& spec, const DeviceModel& device) {
  SCOPED_TRACE(spec.model.name + " on " + device.name);
  const FoldedStep step = make_workload(spec, device);
  const Plan plan = flow_plan(planned(spec, device));
  const SimulationResult referee = simulate(step, device, plan);
  double predicted_ns = 0;
  for (const PlannedWindow& window : plan.windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      predicted_ns += prefetch.predicted_saved_ns;
    }
  }
  EXPECT_GT(predicted_ns, 0);
  const double saved_ns = referee.baseline_step_ns - referee.step_ns;
  // Gross: operators that the stream slows down are not added back, and variations with fewer bytes
  // leave more of the memory than they were planned for.
  const double kept = (saved_ns + referee.collective_slowdown_ns) / predicted_ns;
  EXPECT_GT(kept, 0.85);
  EXPECT_LT(kept, 1.2);
  return saved_ns / static_cast<double>(plan.objective_ns);
}

// The optimum is a promise that the referee finds kept: within 2 % where windows are used up or
// settled, up to 7 % less where some are used in part (their first bytes cost the most, the flow
// spreads that). It may find more: the flow charges a prefetch for slowing operators down that want
// less of the memory once their own bytes are prefetched.
TEST(PaperModels, TheRefereeFindsTheOptimumKept) {
  for (const char* model : kPaperModels) {
    for (const char* device : {"a100-80g", "h100-sxm"}) {
      EXPECT_GE(expect_confirmed(paper_spec(model), example_device(device)), 0.93);
    }
    WorkloadSpec spec = paper_spec(model);
    spec.allreduce_ns = 60'000;  // an assumption, long enough to fill
    EXPECT_GE(expect_confirmed(spec, example_device("ascend-910b")), 0.93);
  }
}

// Where windows are long for what is behind them, they are used in part. The stream's first bytes
// pass beside the collective at full cost then, which the flow spreads over the whole window: its
// optimum is too high there, by up to 16 %.
TEST(PaperModels, PartlyUsedWindowsCostMoreThanTheFlowThinks) {
  for (const char* model : kPaperModels) {
    EXPECT_GE(expect_confirmed(paper_spec(model), example_device("b200")), 0.8);
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
