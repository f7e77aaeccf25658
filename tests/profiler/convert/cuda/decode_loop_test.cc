// SPDX-License-Identifier: Apache-2.0
// A decode loop in a CUDA graph whose memory nobody has named, as gpu_decode is one: from its
// records to a plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/step/folded_step.h"
#include "planner/search/plan.h"
#include "tests/profiler/convert/cuda/converted.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using cuda::NodeEvent;
using test::CudaRecording;

constexpr int kLayers = 8, kReplays = 12;
constexpr uint64_t kWeights = 0x700000000000, kMessage = 0x710000000000;
constexpr int64_t kWeightBytes = 32 << 20, kMessageBytes = 64 << 10;
constexpr int64_t kReadNs = 12'000, kReduceNs = 6'000, kGapNs = 1'000;
constexpr const char* kRead = "_Z11gemm_streamPK6float4mPf";
constexpr const char* kReduce = "_Z26cross_device_reduce_1stagePfm";

void capture(CudaRecording& recording, int number, uint64_t function,
             const std::vector<uint64_t>& parameters) {
  const int64_t time_ns = 100 + 10 * number;
  const auto range = static_cast<uint32_t>(2 + number);
  recording.launch_with(time_ns, static_cast<uint32_t>(1 + number), function,
                        {reinterpret_cast<const char*>(parameters.data()), parameters.size() * 8},
                        range);
  const auto node = 1000 + static_cast<uint64_t>(number);
  recording.node(time_ns + 1, node, NodeEvent::created);
  recording.node(5000 + number, node + 1000, NodeEvent::cloned, node);
}

TEST(DecodeLoop, FromRecordsToAPlan) {
  CudaRecording recording({kRead, kReduce});
  recording.function(5, kRead, {{0, 8}, {8, 8}, {16, 8}});
  recording.function(6, kReduce, {{0, 8}, {8, 8}});
  recording.memory(kMessage, kMessageBytes);
  std::vector<std::pair<std::string, uint32_t>> ranges{{"capture", 0}};
  for (int layer = 0; layer < kLayers; ++layer) {
    const uint64_t weight = kWeights + static_cast<uint64_t>(layer * kWeightBytes);
    recording.memory(weight, kWeightBytes);
    capture(recording, 2 * layer, 5, {weight, kWeightBytes / 16, kMessage});
    capture(recording, 2 * layer + 1, 6, {kMessage, kMessageBytes / 4});
    ranges.emplace_back("layers." + std::to_string(layer) + ".mlp", 1);
    ranges.emplace_back("allreduce", 1);
  }
  int64_t now_ns = 1'000'000;
  for (int replay = 0; replay < kReplays; ++replay) {
    ranges.emplace_back("decode_step", 0);
    const auto correlation = static_cast<uint32_t>(100 + replay);
    recording.launch_graph(now_ns, correlation, static_cast<uint32_t>(ranges.size()));
    now_ns += 10'000;
    for (int i = 0; i < 2 * kLayers; ++i) {
      const int64_t dur_ns = i % 2 == 0 ? kReadNs : kReduceNs;
      recording.kernel(1 + i % 2, now_ns, now_ns + dur_ns, correlation,
                       static_cast<uint64_t>(2000 + i));
      now_ns += dur_ns + kGapNs;
    }
  }
  const test::Converted trace(recording, ranges);

  const FoldedStep step = fold_step(trace.db());
  ASSERT_EQ(step.ops.size(), 2U * kLayers);
  EXPECT_EQ(step.ops[0].name, "gemm_stream(float4 const*, unsigned long, float*)");
  EXPECT_EQ(step.ops[1].kind, OpKind::collective);
  int64_t weights = 0;
  for (const StepTensor& tensor : step.tensors) {
    if (tensor.role != TensorRole::weight) continue;
    EXPECT_EQ(tensor.bytes, kWeightBytes) << tensor.name;
    ++weights;
  }
  EXPECT_EQ(weights, kLayers);

  const DeviceModel device = load_device(PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json");
  const Schedule schedule = make_schedule(step, device, {}).schedule;
  EXPECT_EQ(schedule.plan.verdict, PlanVerdict::prefetch);
  EXPECT_GT(schedule.plan.speedup, 1.03);
  EXPECT_THAT(schedule.plan.windows, testing::SizeIs(kLayers));
}

}  // namespace
}  // namespace preserve
