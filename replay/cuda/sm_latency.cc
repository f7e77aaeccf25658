// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/sm_latency.h"

#include "replay/cuda/device_memory.h"
#include "replay/cuda/error.h"
#include "replay/cuda/kernels/kernels.h"
#include "replay/cuda/sm_split.h"

namespace preserve::cuda {
namespace {

constexpr size_t kLines =
    8;  // each lies in one of the halves, nearer to or farther from its border
constexpr size_t kLineDistanceBytes = 256 << 10;
constexpr uint32_t kHops = 256;
constexpr int kAttempts = 5;  // until every SM was given a block
constexpr unsigned kBlocksPerSm = 8;

struct Answer {
  uint64_t measured, cycles;
};

// Cycles per hop by SM; empty when some SM never got a block.
std::vector<double> latencies_of(uint64_t line, int sms) {
  const auto count = static_cast<size_t>(sms);
  const DeviceMemory memory(count * sizeof(Answer));
  PRESERVE_CUDA_CALL(cudaMemset, memory.get(), 0, count * sizeof(Answer));
  std::vector<Answer> answers(count);
  const Kernel kernel = sm_latency_kernel();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    size_t missing = 0;
    for (uint32_t sm = 0; sm < count; ++sm) {
      if (answers[sm].measured != 0) continue;
      ++missing;
      uint64_t* out = memory.at<uint64_t>(sm * sizeof(Answer));
      uint32_t hops = kHops;
      void* arguments[] = {&out, &sm, &line, &hops};
      PRESERVE_CUDA_CALL(cudaLaunchKernel, kernel.function,
                         dim3(static_cast<unsigned>(sms) * kBlocksPerSm), dim3(1), arguments, 0,
                         nullptr);
    }
    if (missing == 0) break;
    PRESERVE_CUDA_CALL(cudaMemcpy, answers.data(), memory.get(), count * sizeof(Answer),
                       cudaMemcpyDeviceToHost);
  }
  std::vector<double> latencies;
  for (const Answer& answer : answers) {
    if (answer.measured == 0) return {};
    latencies.push_back(static_cast<double>(answer.cycles) / kHops);
  }
  return latencies;
}

}  // namespace

std::vector<int> measure_sm_halves(const GpuFacts& facts) {
  const DeviceMemory lines(kLines * kLineDistanceBytes);
  std::optional<SmSplit> best;
  for (size_t i = 0; i < kLines; ++i) {
    uint64_t line = reinterpret_cast<uint64_t>(lines.get()) + i * kLineDistanceBytes;
    PRESERVE_CUDA_CALL(cudaMemcpy, reinterpret_cast<void*>(line), &line, sizeof(line),
                       cudaMemcpyHostToDevice);  // it points to itself
    const std::vector<double> latencies = latencies_of(line, facts.sms);
    if (latencies.empty()) return {};
    const std::optional<SmSplit> split = split_sms(latencies);
    if (split && (!best || split->ratio > best->ratio)) best = split;
  }
  return best ? best->halves : std::vector<int>{};
}

}  // namespace preserve::cuda
