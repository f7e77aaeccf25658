// SPDX-License-Identifier: Apache-2.0
// CUDA's errors as ours: what the machine lacks is input_error with what to do, the rest internal.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "common/error.h"

namespace preserve::cuda {

// Throws unless error is cudaSuccess. `call`: name of the function.
void check_cuda(cudaError_t error, const char* call);

// PRESERVE_CUDA_CALL(cudaFree, pointer)
#define PRESERVE_CUDA_CALL(function, ...) \
  ::preserve::cuda::check_cuda(function(__VA_ARGS__), #function)

// Why the device cannot be used, and what to do. driver_cuda, runtime_cuda: as 13000; driver_cuda
// 0: there is no driver.
Error cannot_open(cudaError_t error, int driver_cuda, int runtime_cuda);
Error no_such_device(int ordinal, int devices);
Error too_old_device(const std::string& name, int major, int minor);

}  // namespace preserve::cuda
