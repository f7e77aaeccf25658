// SPDX-License-Identifier: Apache-2.0
// Libraries that the CUDA device finds at run time, and what it learns from the driver's management
// library, played by a fake one.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "replay/cuda/libraries/nvml.h"
#include "replay/cuda/libraries/shared_library.h"
#include "tests/support/environment.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::cuda {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

LibrarySearch search_for(const std::string& name) {
  return {.sonames = {name},
          .variable = "PRESERVE_TEST_LIBRARY",
          .wheel_folders = {"nvidia/absent/lib", "nvidia/present/lib"}};
}

TEST(CudaLibrary, FoundInTheProcess) {
  SharedLibrary library(search_for("libc.so.6"));
  EXPECT_TRUE(library.found());
  EXPECT_THAT(library.path(), HasSubstr("libc.so.6"));
  int (*function)(const char*) = library.need("atoi");
  ASSERT_NE(function, nullptr);
  EXPECT_EQ(function("42"), 42);
}

TEST(CudaLibrary, OfAnotherVersionIsNotFound) {
  SharedLibrary library(search_for("libc.so.6"));
  void (*function)() = library.need("preserve_no_such_function");
  EXPECT_EQ(function, nullptr);
  EXPECT_FALSE(library.found());
  EXPECT_THAT(library.problem(), HasSubstr("has no preserve_no_such_function"));
}

TEST(CudaLibrary, MissingIsSaid) {
  const SharedLibrary library(search_for("libpreserve_absent.so.1"));
  EXPECT_FALSE(library.found());
  EXPECT_THAT(library.problem(), HasSubstr("libpreserve_absent.so.1"));
}

// Some library, at that path of a folder that `variable` names.
struct Installed {
  Installed(const char* variable, const char* path)
      : file(folder / path), names_folder({variable}, {{variable, folder.path().string()}}) {
    fs::create_directories(file.parent_path());
    fs::copy_file(PRESERVE_FAKE_NVML, file);
  }
  const test::TemporaryDirectory folder;
  const fs::path file;
  const test::Environment names_folder;
};

TEST(CudaLibrary, VariableIsAWishAndNothingElseIsTried) {
  const Installed wheel("PRESERVE_SITE_PACKAGES", "nvidia/present/lib/libpreserve_a.so.1");
  const test::Environment wish({"PRESERVE_TEST_LIBRARY"},
                               {{"PRESERVE_TEST_LIBRARY", (wheel.folder / "none.so").string()}});
  const SharedLibrary library(search_for("libpreserve_a.so.1"));
  EXPECT_FALSE(library.found());
  EXPECT_THAT(library.problem(), HasSubstr("PRESERVE_TEST_LIBRARY names"));
}

TEST(CudaLibrary, FoundInWheels) {
  const Installed wheel("PRESERVE_SITE_PACKAGES", "nvidia/present/lib/libpreserve_b.so.1");
  const SharedLibrary library(search_for("libpreserve_b.so.1"));
  EXPECT_TRUE(library.found()) << library.problem();
  EXPECT_EQ(library.path(), wheel.file);
}

TEST(CudaLibrary, FoundInTheToolkit) {
  const Installed toolkit("CUDA_HOME", "lib64/libpreserve_c.so.1");
  const SharedLibrary library(search_for("libpreserve_c.so.1"));
  EXPECT_TRUE(library.found()) << library.problem();
}

class CudaNvml : public testing::Test {
 protected:
  void SetUp() override {
    // By its soname the device then finds it in the process.
    library_ = ::dlopen(PRESERVE_FAKE_NVML, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << ::dlerror();
    // The copy that is found by its soname; tests before may have loaded another.
    void* found = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_NOLOAD);
    busy_looks_ = static_cast<int*>(::dlsym(found, "fake_nvml_busy_looks"));
    ASSERT_NE(busy_looks_, nullptr) << ::dlerror();
    ::dlclose(found);
  }
  void TearDown() override {
    if (library_ != nullptr) ::dlclose(library_);
  }
  void* library_ = nullptr;
  int* busy_looks_ = nullptr;
};

TEST_F(CudaNvml, StateOfABusyGpu) {
  *busy_looks_ = 1000;
  Nvml nvml("0000:3b:00.0", [] {});
  EXPECT_EQ(nvml.driver(), "580.159.04");
  EXPECT_TRUE(nvml.mig());
  EXPECT_NEAR(nvml.host_link_bytes_per_s(), 63e9, 1e9);
  ASSERT_EQ(nvml.compute_pids().size(), 70U);
  const GpuState state = nvml.state({1000, 1001});
  EXPECT_EQ(state.sm_clock_mhz, 1755);
  EXPECT_EQ(state.memory_clock_mhz, 2619);
  EXPECT_EQ(state.utilisation_percent, 97);
  EXPECT_EQ(state.temperature_c, std::nullopt);  // this one does not say
  EXPECT_EQ(state.throttle, "power cap, too warm");
  EXPECT_EQ(state.other_pids.size(), 68U);
  EXPECT_EQ(state.other_pids.front(), 1002);
}

// The driver's figure is of the last second: a process of ours that has just ended is in it.
TEST_F(CudaNvml, WhatHasJustEndedIsNoOtherUse) {
  *busy_looks_ = 3;
  int pauses = 0;
  Nvml nvml("0000:3b:00.0", [&] { ++pauses; });
  EXPECT_EQ(nvml.state({}).utilisation_percent, 4);
  EXPECT_EQ(pauses, 3);
  *busy_looks_ = 1000;  // from now on it is our own work
  EXPECT_EQ(nvml.state({}).utilisation_percent, 4);
  EXPECT_EQ(pauses, 3);
}

TEST_F(CudaNvml, GpuThatItDoesNotKnow) {
  Nvml nvml("0000:00:00.0");
  EXPECT_EQ(nvml.driver(), "580.159.04");
  EXPECT_FALSE(nvml.mig());
  EXPECT_EQ(nvml.host_link_bytes_per_s(), 0);
  const GpuState state = nvml.state({});
  EXPECT_EQ(state.sm_clock_mhz, std::nullopt);
  EXPECT_TRUE(state.other_pids.empty());
}

TEST(CudaThrottle, Reasons) {
  EXPECT_EQ(throttle_text(0), "");
  EXPECT_EQ(throttle_text(0x1), "");          // idle
  EXPECT_EQ(throttle_text(0x2 | 0x100), "");  // clocks that were chosen
  EXPECT_EQ(throttle_text(0x80 | 0x8), "hardware slowdown, power brake");
}

TEST(CudaLink, RateOfPcie) {
  EXPECT_NEAR(pcie_bytes_per_s(4, 16), 31.5e9, 0.1e9);
  EXPECT_EQ(pcie_bytes_per_s(99, 16), 0);
  EXPECT_EQ(pcie_bytes_per_s(0, 16), 0);
}

}  // namespace
}  // namespace preserve::cuda
