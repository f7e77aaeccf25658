// SPDX-License-Identifier: Apache-2.0
// Kernel parameters and memory -> what operators access.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/profiler/convert/cuda/converted.h"

namespace preserve {
namespace {

using cuda::RecordType;
using test::Converted;
using test::CudaRecording;

// Of one pointer (offset 0) and one struct of 24 bytes.
const std::vector<cuda::ParameterLayout> kPointerAndStruct{{0, 8}, {8, 24}};

std::string words(std::initializer_list<uint64_t> values) {
  std::string out;
  for (const uint64_t value : values) out.append(reinterpret_cast<const char*>(&value), 8);
  return out;
}
const char* const kAccesses =
    "SELECT string.value, role, offset_bytes || '+' || access.bytes, access.source, "
    "ROUND(confidence, 2) FROM access JOIN tensor ON tensor.id = tensor_id JOIN string ON "
    "string.id = tensor.name_id ORDER BY op_id, operand";

TEST(CudaConvert, PointerIntoANamedRegionIsItsOperand) {
  CudaRecording recording({"gemm"});
  recording.function(5, "gemm", kPointerAndStruct);
  recording.launch_with(100, 1, 5, words({0x10000100, 7, 8, 9}));
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording, {}, {{"layers.0.mlp.weight", 0x10000000, 0x1000}});
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("layers.0.mlp.weight weight 256+3840 params 0.9"));
}

TEST(CudaConvert, BlocksOfAnAllocationEndAtTheNextPointer) {
  CudaRecording recording({"gemm", "silu_and_mul"});
  recording.function(5, "gemm", kPointerAndStruct);
  recording.function(6, "silu_and_mul", kPointerAndStruct);
  recording.memory(0x20000000, 0x1000);
  // gemm reads a weight and, in a struct, what silu also reads.
  recording.launch_with(100, 1, 5, words({0x20000000, 0, 0x20000400, 0}));
  recording.kernel(1, 200, 300, 1);
  recording.launch_with(110, 2, 6, words({0x20000400, 0, 0, 0}));
  recording.kernel(2, 300, 400, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("gemm.0.arg0 weight 0+1024 params 0.6",
                                   "gemm.0.arg16 unknown 0+3072 params 0.3",
                                   "gemm.0.arg16 unknown 0+3072 params 0.4"));
  EXPECT_EQ(trace.summary.operands.matched, 2);
}

TEST(CudaConvert, PointerIntoReleasedMemoryIsNoOperand) {
  CudaRecording recording({"gemm"});
  recording.function(5, "gemm", kPointerAndStruct);
  recording.memory(0x20000000, 0x1000);
  recording.memory(0x20000000, 0, true, 5'000'000);
  recording.launch_with(9'000'000, 1, 5, words({0x20000000, 0, 0, 0}));
  recording.kernel(1, 9'000'200, 9'000'300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses), testing::IsEmpty());
  EXPECT_EQ(trace.summary.operands.launches, 1);
  EXPECT_EQ(trace.summary.operands.matched, 0);
}

TEST(CudaConvert, TensorMapTellsAddressAndExtent) {
  CudaRecording recording({"nvjet_tst_128x8"});
  recording.add(RecordType::function, cuda::FunctionBody{5, cuda::kUnknownLayout, 0},
                "nvjet_tst_128x8");
  recording.memory(0x20000000, 0x100000);
  cuda::TensorMapBody map{};
  for (uint64_t i = 0; i < 16; ++i) map.descriptor[i] = 0xabcd0000 + i;
  map.address = 0x20000800;
  map.rank = 2;
  map.element_bytes = 2;
  map.dims[0] = 64;
  map.dims[1] = 10;
  map.strides[0] = 128;
  recording.add(RecordType::tensor_map, map);
  std::string parameters(reinterpret_cast<const char*>(map.descriptor), sizeof(map.descriptor));
  recording.launch_with(100, 1, 5, parameters);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("nvjet_tst_128x8.0.arg0 weight 0+1280 params 0.95"));
}

TEST(CudaConvert, ReplaysTouchWhatTheirCaptureWasGiven) {
  CudaRecording recording({"gemm"});
  recording.function(5, "gemm", kPointerAndStruct);
  recording.memory(0x20000000, 0x1000);
  recording.launch_with(100, 1, 5, words({0x20000000, 0, 0, 0}));
  recording.node(101, 9, cuda::NodeEvent::created);
  for (uint32_t replay = 0; replay < 3; ++replay) {
    const int64_t t = 10'000'000 * (replay + 1);
    recording.launch_graph(t, 10 + replay);
    recording.kernel(1, t + 100, t + 200, 10 + replay, 9);
  }
  const Converted trace(recording);
  EXPECT_EQ(trace.rows(kAccesses).size(), 3u);
}

}  // namespace
}  // namespace preserve
