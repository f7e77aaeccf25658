// SPDX-License-Identifier: Apache-2.0
// schedule.json of a GPU as the plan for CUDA graphs.
#include "apply/run/graph_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apply/kernel_name.h"
#include "common/error.h"

namespace preserve::apply {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

PlannedPrefetch prefetch(const std::string& tensor, int32_t consumer, int64_t offset_bytes,
                         int64_t length_bytes) {
  PlannedPrefetch result;
  result.tensor = tensor;
  result.consumer_ordinal = consumer;
  result.offset_bytes = offset_bytes;
  result.length_bytes = length_bytes;
  return result;
}

class GraphPlanTest : public testing::Test {
 protected:
  GraphPlanTest() {
    schedule_.device_name = "GPU";
    schedule_.plan.verdict = PlanVerdict::prefetch;
    schedule_.plan.method = IssueMethod{"bulk_l2", "spare", 4096, 16, "last"};
    step_.streams = {7, 9};
    add("void vllm::norm<float>(float*)");
    add("memcpy DtoD");
    add("cross_device_reduce(float*)");
    add("MPI_Barrier", 1);
    add("void cutlass::gemm<int, 4>(cutlass::Params)");
    window(2, {prefetch("cutlass::gemm.0.arg16", 4, 0, 4096),
               prefetch("cutlass::gemm.0.arg16", 4, 4096, 1024)});
  }
  void add(const std::string& name, int32_t stream = 0) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step_.ops.size());
    op.name = name;
    op.stream = stream;
    step_.ops.push_back(op);
  }
  void window(int32_t ordinal, std::vector<PlannedPrefetch> prefetches) {
    PlannedWindow added;
    added.ordinal = ordinal;
    added.prefetches = std::move(prefetches);
    schedule_.plan.windows.push_back(added);
  }
  CompiledGraphPlan compile() const {
    return compile_graph_plan(schedule_, step_, {7}, {"layers.0.weight", "layers.1.weight"},
                              {"schedule.json", "/tmp/folder"});
  }
  auto refusal(const char* text) const {
    return testing::ThrowsMessage<Error>(
        testing::AllOf(HasSubstr("schedule.json"), HasSubstr(text)));
  }
  Schedule schedule_;
  FoldedStep step_;
};

TEST_F(GraphPlanTest, HasTheKernelsOfTheStepAndWhereTheirOperandsAre) {
  const CompiledGraphPlan compiled = compile();
  const GraphPlanContent& plan = compiled.content;
  EXPECT_THAT(plan.kernels, ElementsAre(kernel_name("_ZN4vllm4normIfEEvPT_"),
                                        kernel_name("_Z19cross_device_reducePf"),
                                        kernel_name("_ZN7cutlass4gemmIiLi4EEEvNS_6ParamsE")));
  ASSERT_EQ(plan.windows.size(), 1u);
  EXPECT_EQ(plan.windows[0].kernel, 1u);
  EXPECT_EQ(plan.windows[0].slices, 2u);
  EXPECT_EQ(plan.slices[1].consumer, 2u);
  EXPECT_EQ(plan.slices[1].argument, 16u);
  EXPECT_EQ(plan.slices[1].offset_bytes, 4096u);
  EXPECT_EQ(plan.slices[1].length_bytes, 1024u);
  EXPECT_EQ(plan.header.fetch, GraphFetch::bulk_l2);
  EXPECT_EQ(plan.header.kept, 1);
  EXPECT_EQ(plan.header.blocks, 16u);
  EXPECT_EQ(plan.header.chunk_bytes, 4096u);
  EXPECT_EQ(compiled.planned_bytes, 5120);
  EXPECT_THAT(compiled.warnings, IsEmpty());
  EXPECT_TRUE(is_for_graphs(schedule_));
}

TEST_F(GraphPlanTest, TensorsWithARegionAreFoundByName) {
  window(4, {prefetch("layers.1.weight", 0, 128, 2048), prefetch("layers.1.weight", 4, 0, 64),
             prefetch("layers.0.weight", 0, 0, 32)});
  const CompiledGraphPlan compiled = compile();
  const GraphPlanContent& plan = compiled.content;
  ASSERT_EQ(plan.slices.size(), 5u);
  EXPECT_EQ(plan.slices[0].argument, 16u);
  EXPECT_EQ(plan.slices[2].argument, kByName);
  EXPECT_EQ(plan.slices[2].offset_bytes, 128u);
  EXPECT_EQ(plan.slices[2].tensor, plan.slices[3].tensor);
  ASSERT_EQ(plan.tensors.size(), 2u);
  const PlanText name = plan.tensors[plan.slices[4].tensor].name;
  EXPECT_EQ(plan.text.substr(name.offset, name.bytes), "layers.0.weight");
  EXPECT_THAT(compiled.warnings, IsEmpty());
  EXPECT_EQ(compiled.planned_bytes, 5120 + 2048 + 64 + 32);
}

TEST_F(GraphPlanTest, LeavesOutWhatNeitherParameterNorRegionTells) {
  window(1, {prefetch("cutlass::gemm.0.arg16", 4, 0, 64)});    // beside a copy
  window(4, {prefetch("layers.2.weight", 0, 0, 2048),          // that the recording inferred
             prefetch("cutlass::gemm.0.arg16", 0, 0, 1024)});  // of another kernel
  const CompiledGraphPlan compiled = compile();
  EXPECT_EQ(compiled.content.windows.size(), 1u);
  EXPECT_EQ(compiled.planned_bytes, 5120);
  EXPECT_THAT(compiled.warnings,
              ElementsAre(HasSubstr("3.0 KiB per step are left out"),
                          HasSubstr("a window of the schedule is not at a kernel")));
}

TEST_F(GraphPlanTest, RefusesWhatNoGraphCanFollow) {
  schedule_.plan.method->name = "prefetcht1";
  EXPECT_THAT([&] { compile(); }, refusal("is not one of a GPU"));
  schedule_.plan.method->name = "load";
  schedule_.plan.windows[0].prefetches = {prefetch("weight.arg", 4, 0, 64)};
  EXPECT_THAT([&] { compile(); }, refusal("neither parameters of kernels nor NVTX"));
  step_.ops.erase(step_.ops.begin(), step_.ops.end());
  EXPECT_THAT([&] { compile(); }, refusal("no kernels of a GPU"));
}

TEST_F(GraphPlanTest, NamesThatOnlyLookLikeOperandsAreNone) {
  for (const char* name : {"", ".arg", "x.arg8", ".1.arg8", "cutlass::gemm.0.arg", "a.0.arg8x",
                           "cutlass::gemm.0.arg99999999999", "cutlass::gemm.0.arg-8"}) {
    schedule_.plan.windows[0].prefetches = {prefetch(name, 4, 0, 64)};
    EXPECT_THAT([&] { compile(); }, refusal("nothing of it can be applied")) << name;
  }
}

}  // namespace
}  // namespace preserve::apply
