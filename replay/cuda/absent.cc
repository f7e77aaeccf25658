// SPDX-License-Identifier: Apache-2.0
// What stands in for the CUDA device where this is built without nvcc or with PRESERVE_CUDA=OFF.
#include "common/error.h"
#include "replay/gpu/device.h"

namespace preserve {

std::unique_ptr<GpuDevice> open_cuda_device(int) {
  throw input_error(
      "built without CUDA: configure with -DPRESERVE_CUDA=ON on a machine with the CUDA toolkit "
      "13.0 or newer, or leave out the GPU");
}

int count_cuda_devices() {
  return 0;
}

}  // namespace preserve
