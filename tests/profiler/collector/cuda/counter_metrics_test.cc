// SPDX-License-Identifier: Apache-2.0
// The choice of counters, asked of the real libcupti, which knows every chip without a GPU: what we
// ask for exists there, and one pass is enough.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "profiler/collector/cuda/counter_metrics.h"

namespace preserve::cuda {
namespace {

class RealCounterMetrics : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(PRESERVE_REAL_CUPTI)) GTEST_SKIP() << "no libcupti here";
    library_ = ::dlopen(PRESERVE_REAL_CUPTI, RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) GTEST_SKIP() << ::dlerror();
    find("cuptiProfilerHostInitialize", api_.host_initialize);
    find("cuptiProfilerHostDeinitialize", api_.host_deinitialize);
    find("cuptiProfilerHostConfigAddMetrics", api_.host_add_metrics);
    find("cuptiProfilerHostGetConfigImageSize", api_.host_config_size);
    find("cuptiProfilerHostGetConfigImage", api_.host_config);
    find("cuptiProfilerHostGetNumOfPasses", api_.host_passes);
    find("cuptiProfilerHostGetSupportedChips", chips_);
    if (api_.host_initialize == nullptr || api_.host_passes == nullptr || chips_ == nullptr) {
      GTEST_SKIP() << "this libcupti is older than CUDA 12.6";
    }
  }
  template <typename Function>
  void find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
  }
  bool knows(const char* chip) {
    CUpti_Profiler_Host_GetSupportedChips_Params params{};
    params.structSize = CUpti_Profiler_Host_GetSupportedChips_Params_STRUCT_SIZE;
    EXPECT_EQ(chips_(&params), CUPTI_SUCCESS);
    for (size_t i = 0; i < params.numChips; ++i) {
      if (std::strcmp(params.ppChipNames[i], chip) == 0) return true;
    }
    return false;
  }
  uint32_t counters(const char* chip, uint32_t wanted) {
    CounterMetrics metrics(api_);
    if (metrics.open(chip, nullptr, wanted) != CUPTI_SUCCESS) return 0;
    EXPECT_GT(metrics.config_bytes(), 0u);
    return metrics.counters();
  }

  void* library_ = nullptr;
  CuptiApi api_;
  decltype(&::cuptiProfilerHostGetSupportedChips) chips_ = nullptr;
};

constexpr uint32_t kAll = counters_of(kDramCounters | kL2Counters);

TEST_F(RealCounterMetrics, EveryServerChipCountsAllInOnePass) {
  for (const char* chip : {"TU102", "GA100", "GA102", "AD102", "GH100", "GB100", "GB102", "GB202",
                           "GB203", "GB205", "GB206", "GB207"}) {
    SCOPED_TRACE(chip);
    if (!knows(chip)) continue;  // newer than this library
    EXPECT_EQ(counters(chip, kAll), kAll);
    EXPECT_EQ(counters(chip, counters_of(kDramCounters)), counters_of(kDramCounters));
    EXPECT_EQ(counters(chip, counters_of(kL2Counters)), counters_of(kL2Counters));
  }
  EXPECT_TRUE(knows("GH100"));
}

TEST_F(RealCounterMetrics, ChipsWithoutMemoryOfTheirOwnCountTheCache) {
  if (!knows("GA10B")) GTEST_SKIP() << "this libcupti knows no such chip";
  EXPECT_EQ(counters("GA10B", kAll), counters_of(kL2Counters));
  EXPECT_EQ(counters("GA10B", counters_of(kDramCounters)), 0u);
}

TEST_F(RealCounterMetrics, WhatNeedsASecondPassIsLeftOut) {
  if (!knows("GV100")) GTEST_SKIP() << "this libcupti knows no such chip";
  EXPECT_EQ(counters("GV100", kAll), kAll & ~8u);  // l2_write_bytes would be the second pass
}

TEST_F(RealCounterMetrics, UnknownChipIsAnError) {
  CounterMetrics metrics(api_);
  EXPECT_NE(metrics.open("NOSUCHCHIP", nullptr, kAll), CUPTI_SUCCESS);
  EXPECT_EQ(metrics.counters(), 0u);
}

}  // namespace
}  // namespace preserve::cuda
