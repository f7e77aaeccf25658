// SPDX-License-Identifier: Apache-2.0
// In the place of CUDA: one small simulated GPU, so that whole tools can be run without a real one.
// PRESERVE_FAKE_GPU names what is the matter with it: busy, mig, full, throttled.
#include <cstdlib>
#include <string_view>

#include "common/error.h"
#include "tests/support/fake_gpu.h"

namespace preserve {

std::unique_ptr<GpuDevice> open_cuda_device(int ordinal) {
  if (ordinal != 0) throw input_error("cuda:{}: there is one simulated GPU, cuda:0", ordinal);
  test::FakeGpuProperties properties;
  properties.block_bytes = 1024;
  properties.facts.compute_major = 8;
  properties.facts.sms = 4;
  properties.facts.l2_bytes = 64 << 10;
  properties.facts.persisting_l2_max_bytes = 0;
  properties.effective_l2_bytes = 48 << 10;
  properties.cold_bytes_per_s = 2e9;
  properties.hot_bytes_per_s = 8e9;
  const char* named = std::getenv("PRESERVE_FAKE_GPU");
  const std::string_view matter = named == nullptr ? "" : named;
  properties.facts.mig = matter == "mig";
  if (matter == "full") properties.facts.free_bytes = 1 << 20;
  if (matter == "busy") properties.state.other_pids = {4711};
  if (matter == "throttled") properties.state.throttle = "power cap";
  return std::make_unique<test::FakeGpu>(properties);
}

int count_cuda_devices() {
  return 1;
}

}  // namespace preserve
