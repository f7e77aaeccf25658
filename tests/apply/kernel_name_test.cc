// SPDX-License-Identifier: Apache-2.0
#include "apply/kernel_name.h"

#include <gtest/gtest.h>

#include "apply/plan_content.h"

namespace preserve::apply {
namespace {

TEST(KernelName, IsTheSameMangledAndDemangled) {
  const std::pair<const char*, const char*> names[] = {
      {"_ZN2at6native13reduce_kernelILi512ELi1EEEvT_",
       "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float> >(at::native::X)"},
      {"_Z11gemm_streamPK6float4mPf", "gemm_stream(float4 const*, unsigned long, float*)"},
      {"_ZN31_GLOBAL__N__f00_4_decode_cu_abc11gemm_streamEPf",
       "(anonymous namespace)::gemm_stream(float*)"},
      {"_ZN2at6native55_GLOBAL__N__c9f0_21_DistributionNormal_cu_0c5b6e85_439524distribution_"
       "elementwiseIfEEvT_",
       "void at::native::(anonymous namespace)::distribution_elementwise<float>(float)"},
      {"_ZN4vllmL4normIfEEvPT_", "void vllm::norm<float>(float*)"},
      {"sm90_xmma_gemm_bf16bf16", "sm90_xmma_gemm_bf16bf16"},
      {"triton_poi_fused_add_0", "triton_poi_fused_add_0"},
  };
  for (const auto& [mangled, demangled] : names) {
    EXPECT_EQ(kernel_name(mangled), kernel_name(demangled)) << mangled;
  }
  EXPECT_NE(kernel_name("gemm"), kernel_name("norm"));
  for (const char* odd :
       {"", "_Z", "_ZN", "_ZN99999999999999999999x", "_Z3ab", "(", "<", "void "}) {
    kernel_name(odd);
  }
}

TEST(GraphPlan, DamagedFilesAreRefused) {
  GraphPlanContent content;
  content.header.folder = content.add_text("/tmp");
  content.kernels = {1, 2, 3};
  content.windows = {{1, 0, 1, 0}};
  content.slices = {{2, 8, 0, 0, 0, 256}};
  const auto opened = [](const std::string& file) {
    GraphPlanView view;
    return view.open(std::as_bytes(std::span(file)));
  };
  EXPECT_EQ(opened(content.encoded()), nullptr);
  const std::string whole = content.encoded();
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_NE(opened(whole.substr(0, bytes)), nullptr) << bytes;
  }
  EXPECT_STREQ(opened(whole + "x"), "cut, or longer than it says");
  const auto refused = [&](auto change) {
    GraphPlanContent damaged = content;
    change(damaged);
    return std::string(opened(damaged.encoded()));
  };
  EXPECT_EQ(refused([](auto& c) { c.text = "tmp/"; }), "its folder is not an absolute path");
  EXPECT_EQ(refused([](auto& c) { c.windows[0].kernel = 3; }),
            "a window is not at a kernel, or out of order");
  EXPECT_EQ(refused([](auto& c) { c.windows[0].slices = 2; }), "a window's slices are missing");
  EXPECT_EQ(refused([](auto& c) { c.slices[0].consumer = 3; }), "a slice is damaged");
  EXPECT_EQ(refused([](auto& c) { c.slices[0].argument = kByName; }), "a slice is damaged");
  GraphPlanContent named = content;
  named.slices[0].argument = kByName;
  named.slices[0].tensor = named.add_tensor("weight");
  EXPECT_EQ(opened(named.encoded()), nullptr);
  EXPECT_EQ(refused([](auto& c) {
              c.add_tensor("weight");
              c.tensors[0].name.bytes = UINT32_MAX;
            }),
            "a tensor is damaged");
  EXPECT_EQ(refused([](auto& c) { c.header.chunk_bytes = 24; }),
            "a number in its header is out of range");
  EXPECT_EQ(refused([](auto& c) { c.header.kept = 2; }),
            "asks for what this version does not know");
  EXPECT_EQ(refused([](auto& c) { c.kernels.clear(); }), "its step has no kernels");
}

}  // namespace
}  // namespace preserve::apply
