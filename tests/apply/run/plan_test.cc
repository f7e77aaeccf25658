// SPDX-License-Identifier: Apache-2.0
// schedule.json as the plan inside the program, and the schedules that have none.
#include "apply/run/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace preserve::apply {
namespace {

using testing::HasSubstr;

PlannedPrefetch prefetch(const std::string& tensor, int64_t offset_bytes, int64_t length_bytes) {
  PlannedPrefetch result;
  result.tensor = tensor;
  result.consumer_ordinal = 4;
  result.offset_bytes = offset_bytes;
  result.length_bytes = length_bytes;
  return result;
}

PlannedWindow window(int32_t ordinal, std::vector<PlannedPrefetch> prefetches) {
  PlannedWindow result;
  result.ordinal = ordinal;
  for (const PlannedPrefetch& slice : prefetches) result.used_bytes += slice.length_bytes;
  result.prefetches = std::move(prefetches);
  return result;
}

class CompiledPlanTest : public testing::Test {
 protected:
  CompiledPlanTest() {
    schedule_.ranks = 2;
    schedule_.device_name = "box";
    schedule_.link_latency_ns = 1000;
    schedule_.signature = {
        {.ordinal = 1, .function = "allreduce", .bytes = 40, .type = "MPI_FLOAT", .ranks = 2},
        {.ordinal = 5, .function = "barrier", .ranks = 2, .messages = true}};
    schedule_.plan.verdict = PlanVerdict::prefetch;
    schedule_.plan.method = IssueMethod{"prefetcht1", "consumer", 2048};
    schedule_.plan.windows = {
        window(1, {prefetch("a.weight", 64, 128)}),
        window(5, {prefetch("allocation.4096.1", 0, 256), prefetch("a.weight", 0, 64)})};
  }
  CompiledPlan compile(std::optional<Via> via = std::nullopt) const {
    return compile_plan(schedule_, {"schedule.json", "/tmp/folder", Mode::guard, via});
  }
  auto refusal(const char* text) const {
    return testing::ThrowsMessage<Error>(
        testing::AllOf(HasSubstr("schedule.json"), HasSubstr(text)));
  }
  Schedule schedule_;
};

TEST_F(CompiledPlanTest, HasTheStepItsWindowsAndItsTensors) {
  const CompiledPlan compiled = compile();
  const PlanContent& plan = compiled.content;
  EXPECT_EQ(plan.header.method, Method::prefetcht1);
  EXPECT_EQ(plan.header.chunk_bytes, 2048U);
  EXPECT_EQ(plan.header.ranks, 2U);
  EXPECT_EQ(plan.header.link_latency_ns, 1000);
  ASSERT_EQ(plan.collectives.size(), 2U);
  EXPECT_EQ(plan.collectives[0].bytes, 40);
  EXPECT_EQ(plan.collectives[0].type_name(), "MPI_FLOAT");
  EXPECT_EQ(plan.collectives[0].after_messages, kNo);
  EXPECT_EQ(plan.collectives[1].bytes, -1);
  EXPECT_EQ(plan.collectives[1].after_messages, kYes);
  ASSERT_EQ(plan.windows.size(), 2U);
  EXPECT_EQ(plan.windows[1].collective, 1U);
  EXPECT_EQ(plan.windows[1].first_slice, 1U);
  EXPECT_EQ(plan.windows[1].slices, 2U);
  ASSERT_EQ(plan.tensors.size(), 2U);
  EXPECT_EQ(plan.tensors[0].kind, TensorKind::region);
  EXPECT_EQ(plan.tensors[0].bytes, 192U);
  EXPECT_EQ(plan.tensors[1].kind, TensorKind::allocation);
  EXPECT_EQ(compiled.planned_bytes, 448);
  EXPECT_THAT(compiled.warnings, testing::IsEmpty());
}

TEST_F(CompiledPlanTest, FillsWindowsAsCalibrationFoundToPayUnlessAskedOtherwise) {
  EXPECT_EQ(compile().content.header.via, Via::measured);
  EXPECT_EQ(compile(Via::convert).content.header.via, Via::convert);
  schedule_.plan.method = IssueMethod{"prefetcht0", "spare", 4096};
  EXPECT_EQ(compile().content.header.via, Via::spare);
  EXPECT_EQ(compile(Via::progress).content.header.via, Via::progress);
}

TEST_F(CompiledPlanTest, LeavesOutWindowsElsewhere) {
  schedule_.plan.windows.push_back(window(7, {prefetch("a.weight", 0, 64)}));
  schedule_.plan.windows.push_back(window(8, {}));  // fetches nothing
  const CompiledPlan compiled = compile();
  EXPECT_EQ(compiled.content.windows.size(), 2U);
  EXPECT_THAT(compiled.warnings, testing::ElementsAre(HasSubstr("1 window")));
}

TEST_F(CompiledPlanTest, IsRefusedWhereNoProgramOnProcessorsCanFollowIt) {
  const Schedule good = schedule_;
  schedule_.signature.clear();
  EXPECT_THAT([&] { compile(); }, refusal("older preserve-tune"));
  schedule_ = good;
  schedule_.plan.method = IssueMethod{"bulk_l2", "consumer", 4096, 8};
  EXPECT_THAT([&] { compile(); }, refusal("on processors alone"));
  schedule_.plan.method = IssueMethod{"bulk_l2", "consumer", 4096};
  EXPECT_THAT([&] { compile(); }, refusal("not one of a processor"));
  schedule_ = good;
  schedule_.signature[0].function = "all_to_some";
  EXPECT_THAT([&] { compile(); }, refusal("not one of MPI"));
  schedule_ = good;
  for (PlannedWindow& window : schedule_.plan.windows) window.ordinal += 100;
  EXPECT_THAT([&] { compile(); }, refusal("at a collective"));
}

}  // namespace
}  // namespace preserve::apply
