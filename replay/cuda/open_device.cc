// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/open_device.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "replay/cuda/error.h"

namespace preserve::cuda {
namespace {

constexpr int kOldestMajor = 8;  // prefetch.global.L2::evict_last, persisting lines

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

// Then its server alone can set L2 aside, when it starts.
bool under_mps(int ordinal) {
  int enabled = 0;
  if (cudaDeviceGetAttribute(&enabled, cudaDevAttrMpsEnabled, ordinal) == cudaSuccess) {
    return enabled != 0;
  }
  cudaGetLastError();
  return false;
}

}  // namespace

void open_current_device(int ordinal) {
  int driver = 0, runtime = 0, devices = 0;
  cudaDriverGetVersion(&driver);  // 0 without a driver; other failures are reported below
  PRESERVE_CUDA_CALL(cudaRuntimeGetVersion, &runtime);
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted != cudaSuccess) throw cannot_open(counted, driver, runtime);
  if (ordinal < 0 || ordinal >= devices) throw no_such_device(ordinal, devices);
  cudaDeviceProp properties{};
  PRESERVE_CUDA_CALL(cudaGetDeviceProperties, &properties, ordinal);
  if (properties.major < kOldestMajor) {
    throw too_old_device(properties.name, properties.major, properties.minor);
  }
  cudaError_t error = cudaSetDevice(ordinal);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // creates the context
  if (error != cudaSuccess) throw cannot_open(error, driver, runtime);
}

std::string pci_bus_id(int ordinal) {
  std::array<char, 32> text{};
  const cudaError_t error =
      cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), ordinal);
  return error == cudaSuccess ? text.data() : "";
}

GpuFacts facts_of(int ordinal, Nvml& nvml) {
  cudaDeviceProp properties{};
  PRESERVE_CUDA_CALL(cudaGetDeviceProperties, &properties, ordinal);
  GpuFacts facts;
  facts.name = properties.name;
  facts.uuid = uuid_text(properties.uuid);
  facts.ordinal = ordinal;
  facts.compute_major = properties.major;
  facts.compute_minor = properties.minor;
  facts.driver = nvml.driver();
  PRESERVE_CUDA_CALL(cudaDriverGetVersion, &facts.driver_cuda);
  PRESERVE_CUDA_CALL(cudaRuntimeGetVersion, &facts.runtime_cuda);
  facts.sms = properties.multiProcessorCount;
  facts.l2_bytes = properties.l2CacheSize;
  if (!under_mps(ordinal)) facts.persisting_l2_max_bytes = properties.persistingL2CacheMaxSize;
  size_t limit = 0;
  if (cudaDeviceGetLimit(&limit, cudaLimitPersistingL2CacheSize) == cudaSuccess) {
    facts.persisting_l2_default_bytes = static_cast<int64_t>(limit);
  } else {
    cudaGetLastError();  // no set-aside here (MIG)
  }
  size_t free_bytes = 0, total_bytes = 0;
  PRESERVE_CUDA_CALL(cudaMemGetInfo, &free_bytes, &total_bytes);
  facts.memory_bytes = static_cast<int64_t>(total_bytes);
  facts.free_bytes = static_cast<int64_t>(free_bytes);
  facts.host_link_bytes_per_s = nvml.host_link_bytes_per_s();
  facts.mig = facts.name.find(" MIG ") != std::string::npos || nvml.mig();
  return facts;
}

std::vector<int64_t> own_pids(const std::vector<int64_t>& before,
                              const std::vector<int64_t>& after) {
  std::vector<int64_t> own{::getpid()};
  if (std::ranges::find(after, own[0]) != after.end()) return own;
  for (const int64_t pid : after) {
    if (std::ranges::find(before, pid) == before.end()) own.push_back(pid);
  }
  return own;
}

}  // namespace preserve::cuda
