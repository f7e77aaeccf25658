// SPDX-License-Identifier: Apache-2.0
// The kernels that are nodes of a step, except prefetches.
#include "replay/cuda/kernels/device_code.cuh"
#include "replay/cuda/kernels/kernels.h"

namespace preserve::cuda {
namespace {

// 4 blocks of 256 threads with 4 loads of 16 bytes each keep 64 KiB per SM in flight, several times
// what hides the latency of device memory, and leave half of the SM to kernels that run at the same
// time.
constexpr int kReadThreads = 256;
constexpr int kLoads = 4;
constexpr uint64_t kPageBytes = kGpuPatternBytes;
static_assert(kReadThreads * sizeof(uint4) == kPageBytes);
static_assert(kLoads * kPageBytes == kReadUnitBytes);

__device__ uint64_t sum_of(const uint4& word) {
  return uint64_t{word.x} + word.y + word.z + word.w;
}

// The unit begins `offset` bytes into the range; byte i of it lies at i modulo wrap_pages.
__device__ uint64_t read_unit(const DeviceRange& range, uint64_t offset, uint32_t wrap_pages) {
  const uint64_t address = __ldg(reinterpret_cast<const unsigned long long*>(&range.address));
  const uint64_t bytes = __ldg(reinterpret_cast<const unsigned long long*>(&range.bytes));
  const uint64_t lane = threadIdx.x * sizeof(uint4);
  uint32_t page = static_cast<uint32_t>(offset / kPageBytes) % wrap_pages;
  uint4 words[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    words[i] = make_uint4(0, 0, 0, 0);
    if (offset + i * kPageBytes + lane < bytes) {
      words[i] = load_streaming(address + page * kPageBytes + lane);
    }
    page = page + 1 == wrap_pages ? 0 : page + 1;
  }
  uint64_t sum = 0;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) sum += sum_of(words[i]);
  return sum;
}

__device__ void write_unit(const DeviceRange& range, uint64_t offset) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const uint64_t at = offset + i * kPageBytes + threadIdx.x * sizeof(uint4);
    if (at >= range.bytes) return;
    const uint64_t address = range.address + at;
    *reinterpret_cast<uint4*>(address) =
        make_uint4(gpu_pattern_word(address), gpu_pattern_word(address + 4),
                   gpu_pattern_word(address + 8), gpu_pattern_word(address + 12));
  }
}

// One reduction per block, into one of several cache lines.
__device__ void add_to_checksum(uint64_t* sums, uint64_t sum) {
  __shared__ uint64_t warps[kReadThreads / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_down_sync(0xFFFFFFFF, sum, distance);
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  uint64_t total = 0;
  for (const uint64_t warp : warps) total += warp;
  reduce_add(&sums[blockIdx.x % kSumWords * kSumStride], total);
}

template <bool kHalf>
__global__ void __launch_bounds__(kReadThreads, 4) read_ranges(const NodeArgs node) {
  if constexpr (kHalf) {
    if (!stays_on_half(node)) return;
  }
  begin_node(node, kHalf || blockIdx.x == 0);  // blocks begin in order
  uint64_t sum = 0;
  Dealer<kHalf> reads(kHalf ? &node.shares->read_ticket : nullptr);
  RangeCursor read_cursor(node.reads);
  const uint64_t read_units = node.reads->units;
  for (uint64_t unit = reads.next(); unit < read_units; unit = reads.next()) {
    const DeviceRange& range = read_cursor.at(unit);
    sum += read_unit(range, (unit - range.first_unit) * kReadUnitBytes, node.wrap_pages);
  }
  if (read_units > 0) add_to_checksum(node.sums, sum);
  Dealer<kHalf> writes(kHalf ? &node.shares->write_ticket : nullptr);
  RangeCursor write_cursor(node.writes);
  const uint64_t write_units = node.writes->units;
  for (uint64_t unit = writes.next(); unit < write_units; unit = writes.next()) {
    const DeviceRange& range = write_cursor.at(unit);
    write_unit(range, (unit - range.first_unit) * kReadUnitBytes);
  }
  end_node(node);
}

// As many threads as a block of NCCL has. Each block holds its own place for the time: nothing
// waits for other blocks.
constexpr int kStandInThreads = 512;

__global__ void __launch_bounds__(kStandInThreads) stand_in(const NodeArgs node) {
  const long long begin = clock64();
  begin_node(node, blockIdx.x == 0);
  auto* link = static_cast<uint4*>(node.link);
  const uint64_t threads = uint64_t{gridDim.x} * kStandInThreads;
  for (uint64_t i = uint64_t{blockIdx.x} * kStandInThreads + threadIdx.x; i < node.link_words;
       i += threads) {
    link[i & node.link_mask] = make_uint4(threadIdx.x, blockIdx.x, 0, 0);
  }
  if (node.link_words > 0) __threadfence_system();  // until the host memory has it
  __syncthreads();
  if (threadIdx.x == 0 && node.hold_ns > 0) {
    spin(node.clock, begin, node.wait_before_ns + node.hold_ns);
  }
  end_node(node);
}

template <bool kHalf>
__global__ void __launch_bounds__(32) chase(const NodeArgs node) {
  if constexpr (kHalf) {
    if (!stays_on_half(node)) return;
  }
  begin_node(node, kHalf || blockIdx.x == 0);
  if (threadIdx.x == 0) {
    const uint64_t line = node.chain_lines * blockIdx.x / gridDim.x;
    uint64_t at = node.chain + line * kLineBytes;
    for (uint64_t hop = 0; hop < node.hops; ++hop) at = load_relaxed(at);
    if (at == 0) __trap();  // no link is 0: keeps the loads
  }
  end_node(node);
}

__global__ void stamp(const NodeArgs node) {
  const uint64_t now = timer_ns();
  reduce_min(&node.slot->first, now);
  reduce_max(&node.slot->last, now);
}

}  // namespace

Kernel read_kernel(bool half) {
  return half ? kernel(read_ranges<true>, kReadThreads) : kernel(read_ranges<false>, kReadThreads);
}
Kernel stand_in_kernel() {
  return kernel(stand_in, kStandInThreads);
}
Kernel chase_kernel(bool half) {
  return half ? kernel(chase<true>, 32) : kernel(chase<false>, 32);
}
Kernel stamp_kernel() {
  return kernel(stamp, 1);
}

}  // namespace preserve::cuda
