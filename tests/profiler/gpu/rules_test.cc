// SPDX-License-Identifier: Apache-2.0
// Names of kernels, shapes of operands, published devices: the tables of the importer.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>

#include "common/glob.h"
#include "profiler/gpu/kernel_rules.h"
#include "profiler/gpu/operand_bytes.h"
#include "profiler/import/known_devices.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::gpu {
namespace {

using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(KernelRules, KernelsOfRealTraces) {
  using enum KernelClass;
  const KernelRules rules;
  const struct {
    const char* name;
    KernelClass kernel_class;
    const char* function;
  } cases[] = {
      {"ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", collective,
       "allreduce"},
      {"ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)", collective,
       "allreduce"},
      {"ncclDevKernel_ReduceScatter_Sum_f16_RING_LL", collective, "reduce_scatter"},
      {"ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)", collective, ""},
      {"ncclDevKernel_SendRecv", p2p, "sendrecv"},
      {"ncclSymkDevKernel_AllGather_LLMC", collective, "allgather"},
      {"void vllm::cross_device_reduce_1stage<__nv_bfloat16, 4>(vllm::RankData*)", collective,
       "allreduce"},
      {"void multimem_all_reduce_kernel<c10::BFloat16, 16>", collective, "allreduce"},
      {"void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<4>",
       collective, "allreduce"},
      {"void tensorrt_llm::kernels::oneShotAllReduceKernel<__half, 8>", collective, "allreduce"},
      {"void deep_ep::intranode::dispatch<8, 768>", collective, "alltoall"},
      {"void deep_ep::internode_ll::combine<true, 9>", collective, "alltoall"},
      {"void deep_ep::internode::cached_notify<true>", collective, "alltoall"},
      {"void deep_ep::intranode::barrier<8>", collective, "barrier"},
      {"void deep_ep::layout::get_dispatch_layout<256, 32, 8>", other, ""},
      {"mscclKernel_Sum_hip_bfloat16_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)",
       collective, "allreduce"},
      {"oneccl_reduce_base<float, 2, 16, 1, 1, 2>", collective, ""},
      {"oneccl_allgather_small<sycl::half>", collective, "allgather"},
      {"mscclpp::allreduceAllPairs<float>", collective, "allreduce"},
      {"void rccl::device::runRing<__half>(int)", collective, ""},
      {"hcclReduceScatter_kernel", collective, "reduce_scatter"},
      {"void pplx::dispatch_kernel", collective, "alltoall"},
      {"c10d::symmetric_memory::barrier_kernel", collective, "barrier"},
      {"hcom_allReduce__123_0_1", collective, "allreduce"},
      {"hcom_reduceScatter__4_2_1", collective, "reduce_scatter"},
      {"hcom_receive__4_2_1", p2p, "recv"},
      {"userbuffers_fp16_sum_inplace_gpu_rr_ag", collective, "allgather"},
      {"userbuffers_fp16_sum_inplace_gpu_rr_rs_oop", collective, "reduce_scatter"},
      {"kuserbuffers_pullrecv", p2p, "sendrecv"},
      {"void tensorrt_llm::kernels::moe_comm::moeA2ADispatchKernel<8>(int const*)", collective,
       "alltoall"},
      {"void tensorrt_llm::kernels::moe_comm::moeA2ACombineKernel<__nv_bfloat16, 8>(...)",
       collective, "alltoall"},
      {"void mori::moe::EpCombineIntraNodeKernel<__hip_bfloat16>", collective, "alltoall"},
      {"void c10d::symmetric_memory::put_signal_kernel(unsigned int**)", p2p, "send"},
      {"nvls_reduce_kernel", collective, ""},
      {"triton_red_fused_add_all_reduce_mean_1", reduction, ""},
      {"triton_poi_fused_all_gather_into_tensor_silu_0", elementwise, ""},
      {"triton_tem_fused_addmm_4", matmul, ""},
      {"zeCommandListAppendMemoryCopy(M2D)[1024 bytes]", copy, ""},
      {"collective-permute-start.3", p2p, "sendrecv"},
      {"recv-done.3", p2p, "recv"},
      {"reduce_local_outofplace_kernel_float32_sum", collective, ""},
      {"oneccl_recv_kernel", p2p, "recv"},
      {"mcclKernel_AllReduce_Ring_Sum_bf16", collective, "allreduce"},
      {"cnclKernel_Ring", collective, ""},
      {"MoeDistributeDispatchV2_0", collective, "alltoall"},
      {"void hybrid_ep::combine_kernel<8>(int)", collective, "alltoall"},
      {"moe_all2all_dispatch", collective, "alltoall"},
      {"tensorrt_llm::kernels::fusedMoeCommKernel", collective, "alltoall"},
      {"rocshmem_put_wave", p2p, "put"},
      {"symm_mem::multimem_reduce", collective, ""},
      {"nvjet_sm103_tst_32x64_64x16_4x1_v_bz_splitK_TNN", matmul, ""},
      {"void cublasLt::splitKreduce_kernel<32, 16, int, float>", reduction, ""},
      {"Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT64x16x128", matmul, ""},
      {"sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", matmul, ""},
      {"volta_sgemm_128x32_nt", matmul, ""},
      {"fmhaSm100fKernel_QkvBfloat16OBfloat16H128PagedKvCausal", attention, ""},
      {"void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>", attention, ""},
      {"void paged_attention_ll4mi_QKV_mfma16_kernel<0>", attention, ""},
      {"void paged_attention_ll4mi_reduce_kernel<__hip_bfloat16>", reduction, ""},
      {"bmm_Bfloat16_Bfloat16Bfloat16_Fp32_t128x8x128u2_s6_swiGlu_dynB_sm100f", experts, ""},
      {"void moe::dev::finalize::finalizeKernel<x>", reduction, ""},
      {"void (anonymous namespace)::store_kvcache<2048l>", kv_store, ""},
      {"void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, ArgMaxOps>>", reduction,
       ""},
      // As CUPTI gives them: mangled.
      {"_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_9ArgMaxOpsIfEEjlLi4EEEEEvT1_",
       reduction, ""},
      {"_ZN4vllm26cross_device_reduce_1stageI13__nv_bfloat16Li8EEEvPNS_8RankDataENS_11RankSignalsE"
       "PNS_6SignalEPT_ii",
       collective, "allreduce"},
      {"_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalIN4cute5tupleIJiiiEEEEEEEvNT_"
       "6ParamsE",
       matmul, ""},
      {"_ZN7cutlass13device_kernelIN5flash11enable_sm90INS1_16FlashAttnFwdSm90IvEEEEEEvNT_6ParamsE",
       attention, ""},
      {"_ZN4vllm25reshape_and_cache_kernelI6__halfEEvPKT_", kv_store, ""},
      {"void at::native::vectorized_elementwise_kernel<4, gemm>", elementwise, ""},
      {"_ZN5aiter24add_rmsnorm_quant_kernelIDF16b", norm, ""},
      {"Memcpy DtoD (Device -> Device)", copy, ""},
      {"completely unheard of", other, ""}};
  for (const auto& each : cases) {
    const KernelIdentity identity = rules.identify(each.name);
    EXPECT_EQ(to_text(identity.kernel_class), std::string(to_text(each.kernel_class))) << each.name;
    EXPECT_EQ(identity.function, each.function) << each.name;
  }
}

TEST(KernelRules, UsersComeFirst) {
  TemporaryDirectory directory;
  KernelRules rules;
  std::ofstream(directory / "rules")
      << "# mine\n*MyFusedGemm* collective allreduce # it waits\n\n*fast_path* matmul\n";
  rules.add_file(directory / "rules");
  EXPECT_EQ(rules.identify("void myfusedgemm_v2").function, "allreduce");
  EXPECT_EQ(rules.identify("x_fast_path_y").kernel_class, KernelClass::matmul);
}

TEST(KernelRules, BadRulesAreRefusedWithTheirLine) {
  TemporaryDirectory directory;
  for (const char* line : {"*x*", "*x* gemms", "*x* matmul a b"}) {
    std::ofstream(directory / "rules") << "# one\n" << line << "\n";
    EXPECT_THAT([&] { KernelRules().add_file(directory / "rules"); }, test::fails_with("rules:2:"))
        << line;
  }
}

bool slow_glob(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    return slow_glob(pattern.substr(1), text) ||
           (!text.empty() && slow_glob(pattern, text.substr(1)));
  }
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         slow_glob(pattern.substr(1), text.substr(1));
}

RC_GTEST_PROP(Glob, AgreesWithTheDefinition, ()) {
  const std::string pattern =
      (*rc::gen::container<std::string>(rc::gen::element('a', 'b', '*', '?'))).substr(0, 11);
  const std::string text =
      (*rc::gen::container<std::string>(rc::gen::element('a', 'b'))).substr(0, 11);
  RC_ASSERT(glob_matches(pattern, text) == slow_glob(pattern, text));
}

std::vector<std::string> rendered(std::string_view op, const char* dims, const char* types,
                                  KernelClass kernel_class = KernelClass::matmul,
                                  const char* kernel = "k") {
  OperandTable table;
  std::vector<std::string> out;
  for (const auto& each :
       operand_bytes(op, kernel, kernel_class, table.at(table.add(dims, types)))) {
    out.push_back(fmt::format("{} {} {} {}", each.word, to_text(each.role), each.access_bytes,
                              to_text(each.mode)));
  }
  return out;
}

TEST(OperandBytes, MatrixProducts) {
  EXPECT_THAT(rendered("aten::linear", "[[2, 5, 8], [4, 8], []]", R"(["float", "float", ""])"),
              ElementsAre("weight weight 128 read", "input activation 320 read",
                          "output activation 160 write"));
  EXPECT_THAT(rendered("aten::mm", "[[5, 8], [8, 4]]", R"(["c10::Half", "c10::Half"])"),
              ElementsAre("weight weight 64 read", "input activation 80 read",
                          "output activation 40 write"));
  EXPECT_THAT(rendered("aten::bmm", "[[2, 5, 8], [2, 8, 4]]", R"(["float", "float"])"),
              ElementsAre("other activation 256 read", "input activation 320 read",
                          "output activation 160 write"));
  // An unfamiliar library: (out, a, b^T, scales).
  EXPECT_THAT(
      rendered(
          "_C::cutlass_scaled_mm", "[[5, 64], [5, 32], [32, 64], [1], [1]]",
          R"(["c10::BFloat16", "c10::Float8_e4m3fn", "c10::Float8_e4m3fn", "float", "float"])"),
      testing::Contains("weight weight 2048 read"));
}

std::string shape_text(const std::string& op, const std::string& dims, const std::string& types,
                       KernelClass kernel_class = KernelClass::matmul) {
  OperandTable table;
  const auto shape = product_shape(op, "kernel", kernel_class, table.at(table.add(dims, types)));
  if (!shape) return "none";
  return fmt::format("{} {} {} {}", shape->m, shape->n, shape->k, shape->dtype);
}

TEST(ProductShape, IsRowsOutputsInputsAndTheTypeOfTheWeights) {
  EXPECT_EQ(shape_text("aten::linear", "[[2, 5, 8], [4, 8], []]", R"(["float", "float", ""])"),
            "10 4 8 fp32");
  EXPECT_EQ(shape_text("aten::mm", "[[5, 8], [8, 4]]", R"(["c10::Half", "c10::Half"])"),
            "5 4 8 fp16");
  EXPECT_EQ(
      shape_text("aten::addmm", "[[4], [5, 8], [8, 4], [], []]",
                 R"(["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar", "Scalar"])"),
      "5 4 8 bf16");
  EXPECT_EQ(
      shape_text(
          "_C::cutlass_scaled_mm", "[[5, 64], [5, 32], [32, 64], [1], [1]]",
          R"(["c10::BFloat16", "c10::Float8_e4m3fn", "c10::Float8_e4m3fn", "float", "float"])"),
      "5 64 32 fp8");
  EXPECT_EQ(shape_text("aten::mm", "[[5, 8], [8, 4]]", R"(["unsigned char", "unsigned char"])"),
            "5 4 8 ");
}

TEST(ProductShape, IsNothingWhereThereIsNoWeightOrNothingFits) {
  EXPECT_EQ(shape_text("aten::bmm", "[[2, 5, 8], [2, 8, 4]]", R"(["float", "float"])"), "none");
  // Two int4 values in each byte: half the columns are there.
  EXPECT_EQ(shape_text("aten::linear", "[[5, 8], [4, 4]]", R"(["c10::Half", "signed char"])"),
            "none");
  // Output first or last? Both fit.
  EXPECT_EQ(shape_text("lib::gemm", "[[5, 64], [5, 32], [32, 64]]",
                       R"(["c10::Half", "c10::Half", "c10::Half"])"),
            "none");
  EXPECT_EQ(shape_text("aten::mm", "[[5, 0], [0, 4]]", R"(["float", "float"])"), "none");
  EXPECT_EQ(shape_text("aten::mm", "[[4611686018427387904, 8], [8, 4]]", R"(["float", "float"])"),
            "none");
  EXPECT_EQ(shape_text("aten::scaled_dot_product_attention", "[[5, 8], [8, 4]]",
                       R"(["float", "float"])", KernelClass::attention),
            "none");
}

TEST(OperandBytes, AttentionReadsKeysAndValues) {
  EXPECT_THAT(rendered("aten::_scaled_dot_product_flash_attention",
                       "[[1, 4, 1, 8], [1, 2, 9, 8], [1, 2, 9, 8], []]",
                       R"(["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar"])",
                       KernelClass::attention),
              ElementsAre("query activation 64 read", "key kv 288 read", "value kv 288 read",
                          "output activation 64 write"));
}

TEST(OperandBytes, EmbeddingReadsSomeRows) {
  EXPECT_THAT(rendered("aten::embedding", "[[1000, 8], [3]]", R"(["float", "long int"])",
                       KernelClass::embedding),
              ElementsAre("table unknown 96 read"));
}

TEST(OperandBytes, TypeMayComeFromTheKernel) {
  EXPECT_THAT(
      rendered("aten::mm", "[[5, 8], [8, 4]]", "", KernelClass::matmul, "sm80_xmma_gemm_bf16_tn"),
      testing::Contains("weight weight 64 read"));
  EXPECT_THAT(rendered("aten::mm", "[[5, 8], [8, 4]]", "", KernelClass::matmul, "mystery"),
              IsEmpty());
}

TEST(OperandBytes, NonsenseIsUnknown) {
  EXPECT_THAT(rendered("aten::mm", "[[-, 8], [8, -4-]]", R"(["float", "float"])"), IsEmpty());
  EXPECT_THAT(rendered("aten::mm", "[[9223372036854775807, 8], [8, 9223372036854775807]]",
                       R"(["float", "float"])"),
              IsEmpty());
  EXPECT_THAT(rendered("aten::mm", "[[-1, 8], [8, 0]]", R"(["float", "float"])"), IsEmpty());
  EXPECT_THAT(rendered("aten::mm", "[[5, 8], [8, 4]]", R"(["quantum", "quantum"])"), IsEmpty());
  EXPECT_THAT(rendered("aten::linear", "[[8], [4, 8]]", R"(["float", "float"])"), IsEmpty());
}

TEST(KnownDevices, VariantsAreToldApart) {
  EXPECT_EQ(
      import::known_device("NVIDIA A100-SXM4-80GB", 85'000'000'000)->memory_bandwidth_bytes_per_s,
      2'039'000'000'000);
  EXPECT_EQ(
      import::known_device("NVIDIA A100-PG509-200", 42'297'524'224)->memory_bandwidth_bytes_per_s,
      1'555'000'000'000);
  EXPECT_EQ(import::known_device("NVIDIA H100 80GB HBM3", {})->cache_bytes, 50 << 20);
  EXPECT_FALSE(import::known_device("", {}).has_value());
}

TEST(KernelRules, QualifiedNames) {
  EXPECT_EQ(qualified_name("_ZN2at6native13reduce_kernelILi512EEEvT_"),
            "at::native::reduce_kernel");
  EXPECT_EQ(qualified_name("_Z11gemm_streamPK6float4mPf"), "gemm_stream");
  EXPECT_EQ(qualified_name("_ZL6kernelv"), "kernel");
  EXPECT_EQ(qualified_name(
                "_ZN35_GLOBAL__N__556d3a4f_5_mm_cu__Z2gov26multimem_all_reduce_kernelIfEEvPT_"),
            "(anonymous namespace)::multimem_all_reduce_kernel");
  EXPECT_EQ(qualified_name("_ZNSt6vectorIiE4growEv"), "std::vector");
  for (const char* other : {"", "_Z", "_ZN", "_ZN9", "_Z99999999999999999999a", "_Z5abc", "_ZT_",
                            "k", "ncclDevKernel_SendRecv", "_Z0", "_ZNS_3abcE"}) {
    EXPECT_EQ(qualified_name(other), "") << other;
  }
}

}  // namespace
}  // namespace preserve::gpu
