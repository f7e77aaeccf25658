// SPDX-License-Identifier: Apache-2.0
// The CUDA device on a machine that has no GPU: it says what is missing and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/error.h"
#include "replay/gpu/device.h"
#include "tests/support/errors.h"

#ifdef PRESERVE_GPU_DEVICE
#include "replay/cuda/error.h"
#include "replay/cuda/kernels/device_types.h"
#include "replay/cuda/libraries/matrix_product.h"
#include "replay/cuda/libraries/nccl.h"
#include "replay/cuda/open_device.h"
#endif

namespace preserve {
namespace {

using test::fails_with;

using testing::HasSubstr;

#ifdef PRESERVE_GPU_DEVICE

using namespace cuda;

TEST(CudaDevice, WithoutADriverItSaysSo) {
  if (count_cuda_devices() > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THAT([] { open_cuda_device(0); },
              fails_with(ErrorKind::input, testing::AnyOf(HasSubstr("NVIDIA driver is missing"),
                                                          HasSubstr("shows no GPU"),
                                                          HasSubstr("update the driver"))));
}

TEST(CudaErrors, EachSaysWhatToDo) {
  EXPECT_THAT(cannot_open(cudaErrorInsufficientDriver, 0, 13000).what(),
              testing::AllOf(HasSubstr("install 580 or newer"), HasSubstr("CUDA 13.0")));
  const std::string old = cannot_open(cudaErrorInsufficientDriver, 12040, 13000).what();
  EXPECT_THAT(old, HasSubstr("CUDA 12.4"));
  EXPECT_THAT(old, HasSubstr("update the driver to 580 or newer"));
  EXPECT_THAT(old, HasSubstr("cuda-compat-13-0"));
  EXPECT_THAT(cannot_open(cudaErrorNoDevice, 13000, 13000).what(),
              HasSubstr("CUDA_VISIBLE_DEVICES"));
  EXPECT_THAT(cannot_open(cudaErrorDevicesUnavailable, 13000, 13000).what(),
              HasSubstr("exclusively"));
  EXPECT_THAT(cannot_open(cudaErrorSystemNotReady, 13000, 13000).what(),
              HasSubstr("fabricmanager"));
  EXPECT_EQ(cannot_open(cudaErrorUnknown, 13000, 13000).kind(), ErrorKind::input);
  EXPECT_THAT(no_such_device(3, 2).what(),
              HasSubstr("GPU 3 is not available: this process sees 2"));
  EXPECT_THAT(too_old_device("Tesla V100", 7, 0).what(), HasSubstr("8.0"));
}

TEST(CudaErrors, CallAndErrorAreNamed) {
  EXPECT_NO_THROW(check_cuda(cudaSuccess, "cudaFree"));
  EXPECT_THAT([] { check_cuda(cudaErrorInvalidValue, "cudaFree"); },
              fails_with(ErrorKind::internal, HasSubstr("cudaFree: cudaErrorInvalidValue")));
}

TEST(CudaErrors, AfterALostContextThatIsSaid) {
  EXPECT_THAT([] { check_cuda(cudaErrorIllegalAddress, "cudaEventSynchronize"); },
              fails_with("cannot use the GPU any more"));
}

TEST(CudaPids, ThisProcessMayHaveAnotherNumberThere) {
  const int64_t self = ::getpid();
  EXPECT_THAT(own_pids({5}, {5, self}), testing::ElementsAre(self));
  EXPECT_THAT(own_pids({5}, {5, 77}), testing::ElementsAre(self, 77));
  EXPECT_THAT(own_pids({}, {}), testing::ElementsAre(self));
}

// Layout of what kernels and host share; both are compiled with it, by different compilers.
static_assert(sizeof(DeviceRange) == 24 && alignof(DeviceRange) == 8);
static_assert(sizeof(RangeTable) == 16);
static_assert(sizeof(StampSlot) == 40 && sizeof(Shares) == 24);
static_assert(sizeof(NodeArgs) % 8 == 0 && sizeof(NodeArgs) < 4096);
static_assert(sizeof(StepTotals) == 32 + 8 * kSumWords * kSumStride);

TEST(CudaNccl, RealLibraryTellsItsVersion) {
  Nccl nccl;
  int version = 0;
  try {
    version = nccl.version();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_GT(version, 20000);
}

TEST(CudaNccl, CollectiveNeedsAGroupAndAKnownName) {
  const Nccl nccl;
  EXPECT_THAT(
      [&] { nccl.buffers("alltoall", 1024); },
      fails_with(ErrorKind::input, testing::AnyOf(HasSubstr("alltoall"), HasSubstr("nccl.h"))));
}

TEST(CudaProducts, WithoutADriverNothingCanBeMultiplied) {
  if (count_cuda_devices() > 0) GTEST_SKIP() << "this machine has a GPU";
  MatrixProducts products;
  for (const GpuElement element :
       {GpuElement::fp16, GpuElement::bf16, GpuElement::fp8, GpuElement::int8}) {
    EXPECT_FALSE(products.can_multiply(element));
  }
  EXPECT_THAT([&] { products.prepare(1, 4096, 4096, GpuElement::fp16); },
              fails_with(ErrorKind::input, HasSubstr("cublas")));
}

#else

TEST(CudaDevice, BuiltWithoutCudaItSaysSo) {
  EXPECT_EQ(count_cuda_devices(), 0);
  EXPECT_THAT([] { open_cuda_device(0); },
              fails_with(ErrorKind::input, HasSubstr("built without CUDA")));
}

#endif

}  // namespace
}  // namespace preserve
