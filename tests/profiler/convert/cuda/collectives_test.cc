// SPDX-License-Identifier: Apache-2.0
// What CUDA records, NCCL and kernel arguments say of collectives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/profiler/convert/cuda/converted.h"

namespace preserve {
namespace {

using test::Converted;
using test::CudaRecording;

cuda::LibraryCall nccl_call(const char* function, int64_t bytes, bool plugin) {
  cuda::LibraryCall call;
  call.function = gpu::collective_function(function);
  call.bytes = bytes;
  call.communicator = 0xabc;
  call.from_plugin = plugin;
  if (plugin) call.dtype = "ncclBfloat16";
  return call;
}
// One kernel, and the calls before its launch.
Converted one_kernel(const char* kernel, const std::vector<cuda::LibraryCall>& calls,
                     uint32_t thread_of_calls = 1) {
  CudaRecording recording({kernel});
  recording.reader.set_communicator_ranks(0xabc, 8);
  int64_t ns = 90;
  for (const cuda::LibraryCall& call : calls)
    recording.reader.add(call, {ns++, thread_of_calls, 0});
  recording.launch(100, 1);
  recording.kernel(1, 200, 300, 1);
  return Converted(recording);
}
constexpr const char* kAllReduce = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL";
const char* const kCollectives =
    "SELECT function, IFNULL(bytes, '?'), IFNULL(dtype, '?'), IFNULL(ranks, '?'), source, "
    "confidence FROM collective ORDER BY op_id";

TEST(CudaConvert, PayloadBeforeALaunchDescribesIt) {
  const Converted trace = one_kernel(kAllReduce, {nccl_call("ncclAllReduce", 16384, false)});
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce 16384 ? 8 nccl_nvtx 0.9"));
  EXPECT_THAT(trace.rows("SELECT metric, CAST(value AS INTEGER) FROM counter ORDER BY metric"),
              testing::ElementsAre("blocks 8"));
}

TEST(CudaConvert, PluginIsBelievedBeforeThePayload) {
  const Converted trace = one_kernel(
      kAllReduce, {nccl_call("ncclAllReduce", 16384, false), nccl_call("AllReduce", 16384, true)});
  EXPECT_THAT(trace.rows(kCollectives),
              testing::ElementsAre("allreduce 16384 ncclBfloat16 8 nccl_plugin 1.0"));
  EXPECT_EQ(trace.loss("nccl", "unmatched"), 0);
}

TEST(CudaConvert, PayloadFillsWhatThePluginLeavesOut) {
  cuda::LibraryCall plugin = nccl_call("AllReduce", 0, true);
  plugin.bytes.reset();
  plugin.communicator.reset();
  const Converted trace =
      one_kernel(kAllReduce, {nccl_call("ncclAllReduce", 16384, false), plugin});
  EXPECT_THAT(trace.rows(kCollectives),
              testing::ElementsAre("allreduce 16384 ncclBfloat16 8 nccl_plugin 1.0"));
}

TEST(CudaConvert, GroupWithAsManyLaunchesAsCallsPairsInOrder) {
  CudaRecording recording(
      {"ncclDevKernel_AllReduce_Sum_f32_RING_LL", "ncclDevKernel_AllGather_RING_LL"});
  recording.reader.add(nccl_call("ncclAllReduce", 100, false), {90, 1, 0});
  recording.reader.add(nccl_call("ncclAllGather", 200, false), {91, 1, 0});
  recording.launch(100, 1);
  recording.launch(101, 2);
  recording.kernel(1, 200, 300, 1);
  recording.kernel(2, 300, 400, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT function, bytes FROM collective ORDER BY op_id"),
              testing::ElementsAre("allreduce 100", "allgather 200"));
}

TEST(CudaConvert, FusedCallsOfOneKernelAddUp) {
  const Converted trace =
      one_kernel("ncclDevKernel_SendRecv",
                 {nccl_call("ncclSend", 100, false), nccl_call("ncclRecv", 50, false),
                  nccl_call("ncclSend", 10, false)});  // as an all-to-all does
  EXPECT_THAT(
      trace.rows("SELECT function, bytes, op.kind FROM collective JOIN op ON op.id = op_id"),
      testing::ElementsAre("sendrecv 160 p2p"));
}

TEST(CudaConvert, CallsOfAnotherThreadAreNotMixedIn) {
  const Converted trace = one_kernel(kAllReduce, {nccl_call("ncclAllReduce", 111, false)}, 2);
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce ? ? ? kernel_name 0.5"));
  EXPECT_EQ(trace.loss("nccl", "unmatched"), 1);
}

TEST(CudaConvert, CollectiveInAGraphKeepsWhatItsCaptureSaid) {
  CudaRecording recording({kAllReduce});
  cuda::LibraryCall call = nccl_call("AllReduce", 4096, true);
  call.sequence = 17;
  recording.reader.add(call, {90, 1, 0});
  recording.capture(100, 1, 0, 5);
  recording.launch_graph(10'000'000, 2);
  recording.kernel(1, 10'000'100, 10'000'200, 2, 5);
  recording.launch_graph(20'000'000, 3);
  recording.kernel(1, 20'000'100, 20'000'200, 3, 5);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT function, bytes, sequence FROM collective"),
              testing::ElementsAre("allreduce 4096 -", "allreduce 4096 -"));
}

TEST(CudaConvert, CustomAllreduceIsKnownByItsName) {
  CudaRecording recording(
      {"void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals)"});
  recording.kernel(1, 100, 200, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce ? ? ? kernel_name 0.5"));
}

// Mangled names and layouts (.nv.info of the cubin) as nvcc 13.0 makes them of vLLM's and PyTorch's
// sources.
constexpr const char* kReduce =
    "_ZN4vllm26cross_device_reduce_1stageI13__nv_bfloat16Li8EEEvPNS_8RankDataENS_11RankSignalsE"
    "PNS_6SignalEPT_ii";
constexpr const char* kMultimem = "_Z26multimem_all_reduce_kernelIN3c108BFloat16ELi16EEvPT_mPPjmm";

class CustomAllreduce : public testing::Test {
 protected:
  using Layout = std::vector<cuda::ParameterLayout>;
  static Layout reduce_layout() { return {{0, 8}, {16, 64}, {80, 8}, {88, 8}, {96, 4}, {100, 4}}; }
  static std::string reduce_arguments(int32_t rank, int32_t packs) {
    std::string bytes(104, '\x11');
    std::memcpy(&bytes[96], &rank, 4);
    std::memcpy(&bytes[100], &packs, 4);
    return bytes;
  }
  static std::string multimem_arguments(uint64_t count, uint64_t rank, uint64_t ranks) {
    const uint64_t words[] = {0x7000, count, 0x8000, rank, ranks};
    return {reinterpret_cast<const char*>(words), sizeof(words)};
  }
  // The row of a kernel that was launched with these parameters.
  static std::string row(const std::string& kernel, const Layout& layout,
                         const std::string& arguments, uint8_t flags = 0) {
    CudaRecording recording({kernel});
    recording.function(9, kernel, layout);
    cuda::LaunchBody body{};
    body.function = 9;
    body.flags = flags;
    recording.launch(900, 11, 0, body, arguments);
    recording.kernel(1, 1000, 1500, 11);
    const Converted trace(recording);
    const std::vector<std::string> rows =
        trace.rows("SELECT function, bytes, dtype, ranks, source, confidence FROM collective");
    return rows.size() == 1 ? rows[0] : "no row";
  }
  static constexpr const char* kUnknown = "allreduce - - - kernel_name 0.5";
};

TEST_F(CustomAllreduce, TellsItsSizeByItsArguments) {
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(3, 1024)),
            "allreduce 16384 __nv_bfloat16 8 params 0.8");
  std::string two(kReduce);
  two.replace(two.find("1stageI13__nv_bfloat16Li8E"), 26, "2stageI6__halfLi4E");
  two.replace(0, 8, "_ZN6sglang");
  EXPECT_EQ(row(two, reduce_layout(), reduce_arguments(0, 2)), "allreduce 32 half 4 params 0.8");
  EXPECT_EQ(
      row(kMultimem, {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}}, multimem_arguments(4096, 1, 4)),
      "allreduce 8192 c10::BFloat16 4 params 0.8");
}

TEST_F(CustomAllreduce, StaysUnknownWhereAnythingDiffers) {
  const std::string good = reduce_arguments(3, 1024);
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(8, 1024)), kUnknown);  // rank 8 of 8
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(-1, 1024)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(3, 0)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), good.substr(0, 100)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), good, cuda::kParametersCut), kUnknown);
  EXPECT_EQ(row(kReduce, {{0, 8}, {16, 32}, {48, 8}, {56, 8}, {64, 4}, {68, 4}}, good), kUnknown);
  EXPECT_EQ(row(kReduce, {}, good), kUnknown);
  // Forks with other arguments or types.
  std::string other(kReduce);
  EXPECT_EQ(row(other + "j", reduce_layout(), good), kUnknown);
  EXPECT_EQ(row(other.replace(other.find("Li8E"), 4, "Li9E"), reduce_layout(), good), kUnknown);
  other = kReduce;
  EXPECT_EQ(row(other.replace(other.find("13__nv_bfloat16"), 15, "h"), reduce_layout(), good),
            kUnknown);
  EXPECT_EQ(
      row("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(...)", reduce_layout(), good),
      kUnknown);
  const Layout words{{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}};
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(4096, 4, 4)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(UINT64_MAX / 2, 0, 4)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(4096, 0, 1)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, ""), kUnknown);
}

}  // namespace
}  // namespace preserve
