// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replay/gpu/graph_check.h"
#include "replay/gpu/overlap.h"
#include "replay/gpu/step_graph.h"
#include "replay/gpu/step_waits.h"
#include "tests/replay/step/small_program.h"
#include "tests/support/fake_gpu.h"

namespace preserve {
namespace {

using test::small_arms;
using test::small_program;
using testing::HasSubstr;

constexpr GpuAddress kTensor = 0x1000000;  // the i-th tensor lies at (i + 1) times this
constexpr GpuAddress kHot = 0x80000000, kUseless = 0x90000000;

std::string text_of(const std::vector<GpuRange>& ranges) {
  std::string text;
  for (const GpuRange& range : ranges) {
    const GpuAddress at = range.address;
    const std::string name = at >= kUseless ? "useless"
                             : at >= kHot   ? "hot"
                                            : fmt::format("t{}", at / kTensor - 1);
    const GpuAddress offset = at >= kUseless ? at - kUseless
                              : at >= kHot   ? at - kHot
                                             : at % kTensor;
    text += fmt::format(" {}+{}:{}", name, offset, range.bytes);
  }
  return text;
}

std::string text_of(const GpuNode& node) {
  std::string text;
  switch (node.kind) {
    case GpuNodeKind::read:
      text = "read" + text_of(node.ranges);
      if (!node.writes.empty()) text += " write" + text_of(node.writes);
      if (node.wrap_bytes > 0) text += fmt::format(" wrap {}", node.wrap_bytes);
      break;
    case GpuNodeKind::prefetch:
      text = fmt::format("prefetch {}x{}", node.ctas, node.chunk_bytes) + text_of(node.ranges);
      if (node.eviction == GpuEviction::last) text += " last";
      break;
    case GpuNodeKind::stand_in:
      text = fmt::format("stand-in {} CTAs {} ns {} B", node.ctas, node.hold_ns, node.link_bytes);
      break;
    case GpuNodeKind::gemm:
      text = fmt::format("gemm {}x{}x{}", node.m, node.n, node.k) + text_of(node.ranges);
      break;
    case GpuNodeKind::collective:
      text = fmt::format("{} {} B", node.function, node.message_bytes);
      break;
    case GpuNodeKind::chase:
      text = "chase";
      break;
  }
  if (node.wait_before_ns + node.wait_after_ns > 0) {
    text += fmt::format(" wait {}/{}", node.wait_before_ns, node.wait_after_ns);
  }
  return text;
}

std::vector<std::string> text_of(const GpuGraph& graph) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const GpuNode& node = graph.nodes[i];
    lines.push_back(fmt::format("{} op {} {} {}: {}", i, node.op,
                                node.with_start_of ? "with" : "after", fmt::join(node.after, ","),
                                text_of(node)));
  }
  return lines;
}

class GpuGraphTest : public testing::Test {
 protected:
  GpuGraphTest() {
    rules_.sms = 132;
    rules_.host_link_bytes_per_s = 20e9;
    use(small_program());
  }

  void use(StepProgram program) {
    program_ = std::move(program);
    memory_.tensors.clear();
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      memory_.tensors.push_back((i + 1) * kTensor);
    }
    memory_.hot = {kHot, 64 << 10};
    memory_.useless = {kUseless, 160 << 10};
    waits_.ops.assign(program_.ops.size(), {});
  }

  GpuGraph graph(const ReplayArm& arm) const {
    GpuGraph made = graph_of(program_, arm, memory_, rules_, waits_);
    std::vector<GpuRange> allocations{memory_.hot, memory_.useless};
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      const int64_t patterns = (program_.tensors[i].bytes + 4095) / 4096;
      allocations.push_back({memory_.tensors[i], patterns * 4096});
    }
    check_graph(made, test::fake_facts(), allocations);
    return made;
  }
  std::vector<std::string> lines(const ReplayArm& arm) const { return text_of(graph(arm)); }
  std::vector<ReplayArm> arms(int64_t bytes = 100'000) const { return small_arms(program_, bytes); }

  StepProgram program_;
  GraphMemory memory_;
  GraphRules rules_;
  StepWaits waits_;
};

TEST_F(GpuGraphTest, TheBaselineIsAChain) {
  EXPECT_THAT(lines(arms()[0]),
              testing::ElementsAre("0 op 0 after : read t0+0:1048576",
                                   "1 op 1 after 0: read t1+0:262144 write t1+261136:112",
                                   "2 op 2 after 1: stand-in 24 CTAs 10000 ns 16384 B",
                                   "3 op 3 after 2: read t2+0:1048576",
                                   "4 op 4 after 3: stand-in 24 CTAs 10000 ns 16384 B"));
}

TEST_F(GpuGraphTest, PrefetchesAreLeavesBesideTheCollective) {
  EXPECT_THAT(lines(arms()[1]),
              testing::ElementsAre("0 op 0 after : read t0+0:1048576",
                                   "1 op 1 after 0: read t1+0:262144 write t1+261136:112",
                                   "2 op 2 after 1: stand-in 24 CTAs 10000 ns 16384 B",
                                   "3 op -1 after 1: prefetch 16x4096 t2+0:100000",
                                   "4 op 3 after 2: read t2+0:1048576",
                                   "5 op 4 after 4: stand-in 24 CTAs 10000 ns 16384 B",
                                   "6 op -1 after 4: prefetch 16x4096 t0+0:100000"))
      << "the last one fetches for the next step";
}

TEST_F(GpuGraphTest, IssuedAfterTheCollectiveHasBegun) {
  const auto all = small_arms(program_, 4096, {"prefetch_l2", "spare", 128, 8, "last", "after"});
  const auto text = lines(all[1]);
  EXPECT_EQ(text[2], "2 op 2 after 1: stand-in 24 CTAs 10000 ns 16384 B");
  EXPECT_EQ(text[3], "3 op -1 with 2: prefetch 8x128 t2+0:4096 last");
  EXPECT_EQ(text[4], "4 op 3 after 2: read t2+0:1048576");
}

TEST_F(GpuGraphTest, NullHasTheKernelsAndNothingToFetch) {
  const auto text = lines(arms()[2]);
  EXPECT_EQ(text.size(), 7U);
  EXPECT_EQ(text[3], "3 op -1 after 1: prefetch 16x4096");
}

TEST_F(GpuGraphTest, UselessFetchesOtherMemoryInTurn) {
  const auto text = lines(arms()[3]);
  EXPECT_EQ(text[3], "3 op -1 after 1: prefetch 16x4096 useless+0:100000");
  EXPECT_EQ(text[6], "6 op -1 after 4: prefetch 16x4096 useless+100000:63840 useless+0:36160");
}

TEST_F(GpuGraphTest, HotReadsOneBlockAtTheSamePlaceOfThePattern) {
  program_.ops[0].weights[0] = {0, 4096 + 64, 1 << 19};
  const auto text = lines(arms()[4]);
  EXPECT_EQ(text[0], "0 op 0 after : read hot+64:524288 wrap 61440");
}

TEST_F(GpuGraphTest, OddSlicesAreWidenedToWhatCanBeRead) {
  program_.ops[0].weights[0] = {0, 7, 10};
  EXPECT_EQ(lines(arms()[0])[0], "0 op 0 after : read t0+0:32");
}

TEST_F(GpuGraphTest, WaitsAreHeldWhereTheyBelong) {
  waits_.ops[0] = {100, 200};
  waits_.ops[2] = {300, 0};
  waits_.tail_ns = 400;
  const auto text = lines(arms()[1]);
  EXPECT_EQ(text[0], "0 op 0 after : read t0+0:1048576 wait 100/200");
  EXPECT_EQ(text[2], "2 op 2 after 1: stand-in 24 CTAs 10000 ns 16384 B wait 300/0");
  EXPECT_EQ(text[3], "3 op -1 after 1: prefetch 16x4096 t2+0:100000 wait 300/0")
      << "no longer a window than was recorded";
  EXPECT_EQ(text.back(), "7 op -1 after 5: read wait 400/0");
}

TEST_F(GpuGraphTest, StandInsMoveNoMoreThanTheLinkCan) {
  program_.ops[2].collective->bytes = 1 << 20;
  program_.ops[2].collective->blocks.reset();
  EXPECT_EQ(lines(arms()[0])[2], "2 op 2 after 1: stand-in 16 CTAs 10000 ns 160000 B");
  program_.ops[2].collective->bytes.reset();
  program_.ops[2].collective->blocks = 5000;
  rules_.network_latency_ns = 7000;
  EXPECT_EQ(lines(arms()[0])[2], "2 op 2 after 1: stand-in 132 CTAs 17000 ns 0 B");
  program_.ops[2].collective.reset();  // communication that cannot be repeated: its time alone
  EXPECT_EQ(lines(arms()[0])[2], "2 op 2 after 1: stand-in 1 CTAs 10000 ns 0 B");
}

TEST_F(GpuGraphTest, RealCollectivesCannotWait) {
  rules_.nccl = true;
  waits_.ops[2].before_ns = 500;
  const auto text = lines(arms()[1]);
  EXPECT_EQ(text[2], "2 op -1 after 1: read wait 500/0");
  EXPECT_EQ(text[3], "3 op 2 after 2: allreduce 16384 B");
  EXPECT_EQ(text[4], "4 op -1 after 2: prefetch 16x4096 t2+0:100000");
}

class GpuProductTest : public GpuGraphTest {
 protected:
  GpuProductTest() {
    rules_.multiplies = {GpuElement::fp16};
    program_.ops[0].gemm = StepGemm{4, 512, 1024, "fp16"};
    program_.ops[0].reads = {{1, 0, 4 * 1024 * 2}};  // its activations
  }
};

TEST_F(GpuProductTest, WeightsOfAKnownShapeAreMultiplied) {
  waits_.ops[0] = {100, 200};
  const auto text = lines(arms()[0]);
  EXPECT_EQ(text[0], "0 op -1 after : read wait 100/0");
  EXPECT_EQ(text[1], "1 op 0 after 0: gemm 4x512x1024 t0+0:1048576");
  EXPECT_EQ(text[2], "2 op 0 after 1: read wait 0/200");
}

TEST_F(GpuProductTest, BesideAProductPrefetchesAreAlwaysLeaves) {
  ReplayArm arm = arms()[1];
  arm.method.issue = "after";
  arm.windows = {{0, {{2, 0, 4096}}}};
  const auto text = lines(arm);
  EXPECT_EQ(text[0], "0 op 0 after : gemm 4x512x1024 t0+0:1048576");
  EXPECT_EQ(text[1], "1 op -1 after : prefetch 16x4096 t2+0:4096");
}

TEST_F(GpuProductTest, WhatIsNoPlainProductIsStreamed) {
  const auto streamed = [&] { return lines(arms()[0])[0].find("read t0") != std::string::npos; };
  EXPECT_FALSE(streamed());
  rules_.multiplies = {GpuElement::bf16};
  EXPECT_TRUE(streamed());
  rules_.multiplies = {GpuElement::fp16};
  program_.ops[0].reads = {{1, 0, 200'000}};  // more than activations
  EXPECT_TRUE(streamed());
  program_.ops[0].reads.clear();
  program_.ops[0].gemm = StepGemm{4, 8, 65536, "fp16"};
  EXPECT_TRUE(streamed());
  program_.ops[0].gemm = StepGemm{int64_t{1} << 60, 512, 1024, "fp16"};
  EXPECT_TRUE(streamed());
}

TEST_F(GpuProductTest, HotMultipliesWhatFitsAndStreamsTheRest) {
  EXPECT_TRUE(streamed_when_hot(program_.ops[0], rules_, memory_));
  EXPECT_EQ(lines(arms()[4])[0], "0 op 0 after : read hot+0:1048576 wrap 61440");
  EXPECT_EQ(text_of(streamed_products(program_, memory_, rules_))[0],
            "0 op -1 after : read t0+0:1048576");
  memory_.hot.bytes = (1 << 20) + 4096;
  EXPECT_EQ(lines(arms()[4])[0], "0 op 0 after : gemm 4x512x1024 hot+0:1048576");
}

class GpuOverlapTest : public GpuProductTest {
 protected:
  GpuOverlapTest() {
    fits_.name = "fitted";
    fits_.collectives = {{"allreduce", "nccl", 2, 6000, 4e9, 0, 1024, 1 << 20}};
    arm_.name = "overlap";
    arm_.kind = ArmKind::overlap;
  }
  DeviceModel fits_;
  ReplayArm arm_;
};

TEST_F(GpuOverlapTest, PiecesTakeWhatTheFitsSay) {
  const OverlapChunks chunks = overlap_chunks(program_, &fits_, 2, false);
  EXPECT_EQ(chunks.split, 2);
  // 6 us + 16 KiB at 4 GB/s against 6 us + 4 KiB, of the recorded 10 us.
  EXPECT_EQ(chunks.chunk_ns[2], std::llround(10'000 * (6000 + 1024.0) / (6000 + 4096.0)));
  EXPECT_EQ(chunks.chunk_ns[0], 0);
}

TEST_F(GpuOverlapTest, EachPieceOfACollectiveRunsBesideTheNextPieceOfTheOperator) {
  rules_.overlap_chunk_ns = {0, 0, 3000, 0, 0};
  waits_.ops[1] = {50, 400};
  program_.ops[1].writes.clear();
  EXPECT_THAT(lines(arm_),
              testing::ElementsAre("0 op 0 after : gemm 4x512x1024 t0+0:1048576",
                                   "1 op 1 after 0: read t1+0:65536 wait 50/100",
                                   "2 op 2 after 1: stand-in 24 CTAs 3000 ns 4096 B",
                                   "3 op 1 after 1: read t1+65536:65536 wait 0/100",
                                   "4 op 2 after 2,3: stand-in 24 CTAs 3000 ns 4096 B",
                                   "5 op 1 after 3: read t1+131072:65536 wait 0/100",
                                   "6 op 2 after 4,5: stand-in 24 CTAs 3000 ns 4096 B",
                                   "7 op 1 after 5: read t1+196608:65536 wait 0/100",
                                   "8 op 2 after 6,7: stand-in 24 CTAs 3000 ns 4096 B",
                                   "9 op 3 after 8: read t2+0:1048576",
                                   "10 op 4 after 9: stand-in 24 CTAs 10000 ns 16384 B"));
}

TEST_F(GpuOverlapTest, ProductsAreSplitByRows) {
  std::swap(program_.ops[0], program_.ops[1]);
  rules_.overlap_chunk_ns = {0, 0, 3000, 0, 0};
  const auto text = lines(arm_);
  EXPECT_EQ(text[1], "1 op 1 after 0: gemm 4x128x1024 t0+0:262144");
  EXPECT_EQ(text[7], "7 op 1 after 5: gemm 4x128x1024 t0+786432:262144");
}

TEST_F(GpuOverlapTest, WhatIsMissingIsSaid) {
  EXPECT_THAT(overlap_chunks(program_, nullptr, 2, false).why_not, HasSubstr("--device-file"));
  EXPECT_EQ(overlap_chunks(program_, nullptr, 2, true).split, 2);  // real ones need no fit
  EXPECT_THAT(overlap_chunks(program_, &fits_, 8, false).why_not, HasSubstr("8"));
  program_.ops[2].collective->bytes = 32;
  const OverlapChunks some = overlap_chunks(program_, &fits_, 2, false);
  EXPECT_EQ(some.split, 1);
  EXPECT_THAT(some.why_not, HasSubstr("too small"));
}

const std::vector<double> kEqual(5, 1'000);  // of five operators

TEST(StepWaits, FillUpToWhatWasRecorded) {
  const StepProgram program = small_program();
  const BareTimes bare{
      {15'000, 25'000, 10'000, 19'000, 10'000}, {1'500, 400, 1'000, 1'600, 1'000}, 1'000};
  const StepWaits waits = waits_for(program, {}, bare);
  EXPECT_EQ(waits.tail_ns, 0);             // 500 ns are not worth a node
  EXPECT_EQ(waits.ops[0].before_ns, 500);  // tail and first gap: 2000
  EXPECT_EQ(waits.ops[0].after_ns, 5'000);
  EXPECT_EQ(waits.ops[1].before_ns, 600);
  EXPECT_EQ(waits.ops[1].after_ns, 0);    // longer than recorded: nothing takes that off
  EXPECT_EQ(waits.ops[2].after_ns, 0);    // collectives are not padded
  EXPECT_EQ(waits.ops[3].after_ns, 400);  // 600 ns of launch are made good
}

TEST(StepWaits, ALongTailIsANodeOfItsOwn) {
  StepProgram program = small_program();
  program.tail_ns = 50'000;
  const BareTimes bare{kEqual, kEqual, 1'000};
  const StepWaits waits = waits_for(program, {}, bare);
  EXPECT_EQ(waits.tail_ns, 49'000);
  EXPECT_EQ(waits.ops[0].before_ns, 0);
}

TEST(StepWaits, OfNodesThatCannotWaitOnlyWhatPaysForALaunch) {
  StepProgram program = small_program();
  program.ops[0].gemm = StepGemm{4, 512, 1024, "fp16"};
  GraphRules rules;
  rules.multiplies = {GpuElement::fp16};
  BareTimes bare{{19'000, 20'000, 10'000, 20'000, 10'000}, kEqual, 1'000};
  EXPECT_EQ(waits_for(program, rules, bare).ops[0].after_ns, 0);
  bare.op_ns[0] = 15'000;
  EXPECT_EQ(waits_for(program, rules, bare).ops[0].after_ns, 4'000);
}

TEST(StepWaits, LaunchesInsideALibrarysTimeBelongToTheGaps) {
  StepProgram program = small_program();
  program.ops[3].gemm = StepGemm{4, 512, 1024, "fp16"};
  GraphRules rules;
  rules.multiplies = {GpuElement::fp16};
  GpuRun run;
  run.op_ns = {20'000, 20'000, 10'000, 17'000, 10'000};  // of the product: 15 us and two launches
  run.op_start_ns = {0, 21'000, 42'000, 52'000, 69'000};
  run.step_ns = 80'000;
  StepWaits waits;
  waits.ops.resize(5);
  const BareTimes bare = bare_times(program, rules, {run}, waits);
  EXPECT_EQ(bare.launch_gap_ns, 1'000);
  EXPECT_EQ(bare.op_ns[3], 15'000);
  EXPECT_EQ(bare.gap_ns[3], 1'000);
  EXPECT_EQ(bare.gap_ns[4], 1'000);
  EXPECT_EQ(bare.gap_ns[0], 1'000);
}

}  // namespace
}  // namespace preserve
