// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/device_memory.h"

#include "common/units.h"
#include "replay/cuda/error.h"

namespace preserve::cuda {

// Destructors ignore errors: after a sticky one everything fails, and it has been thrown already.

DeviceMemory::DeviceMemory(size_t bytes) {
  const cudaError_t error = cudaMalloc(&address_, bytes);
  if (error != cudaErrorMemoryAllocation) {
    check_cuda(error, "cudaMalloc");
    return;
  }
  cudaGetLastError();
  size_t free_bytes = 0, total_bytes = 0;
  PRESERVE_CUDA_CALL(cudaMemGetInfo, &free_bytes, &total_bytes);
  throw input_error("the GPU has not enough memory: {} more were asked for, {} of {} are free",
                    format_size(bytes), format_size(free_bytes), format_size(total_bytes));
}

DeviceMemory::~DeviceMemory() {
  if (address_ != nullptr) cudaFree(address_);
}

MappedMemory::MappedMemory(size_t bytes) {
  PRESERVE_CUDA_CALL(cudaHostAlloc, &host_, bytes, cudaHostAllocMapped);
  const cudaError_t error = cudaHostGetDevicePointer(&device_, host_, 0);
  if (error != cudaSuccess) cudaFreeHost(host_);
  check_cuda(error, "cudaHostGetDevicePointer");
}

MappedMemory::~MappedMemory() {
  if (host_ != nullptr) cudaFreeHost(host_);
}

Stream::Stream() {
  PRESERVE_CUDA_CALL(cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking);
}
Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

Event::Event(bool timed) {
  PRESERVE_CUDA_CALL(cudaEventCreateWithFlags, &event_,
                     timed ? cudaEventDefault : cudaEventDisableTiming);
}
Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

}  // namespace preserve::cuda
