// SPDX-License-Identifier: Apache-2.0
// The prefetches: they read the table, ask for lines, and store nothing. Kernels without kHalf have
// no store, reduction or atomic operation at all, which a test reads in their PTX.
#include "replay/cuda/device_code.cuh"
#include "replay/cuda/kernels.h"

namespace preserve::cuda {
namespace {

__device__ uint64_t keep_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

constexpr int kBulkThreads = 128;

template <bool kKeep>
__device__ void request(uint64_t address, uint32_t bytes, uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  // The instruction wants both in multiples of 16; the table holds no others.
  const uint64_t aligned = address & ~uint64_t{15};
  const uint32_t whole = bytes & ~15U;
  if constexpr (kKeep) {
    asm volatile("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" ::"l"(aligned),
                 "r"(whole), "l"(policy)
                 : "memory");
  } else {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(aligned), "r"(whole)
                 : "memory");
  }
#endif
}

// One request per thread at a time. Those of one turn are dealt to the blocks first, so that the
// queues of all SMs work on neighbouring addresses, in the order of the table.
template <bool kKeep, bool kHalf>
__global__ void __launch_bounds__(kBulkThreads) prefetch_bulk(const NodeArgs node) {
  if constexpr (kHalf) {
    if (!stays_on_half(node)) return;
  }
  wait_ns(node.clock, node.wait_before_ns);
  const uint64_t policy = kKeep ? keep_policy() : 0;
  RangeCursor cursor(node.reads);
  const uint64_t units = node.reads->units;
  uint64_t unit = uint64_t{threadIdx.x} * gridDim.x + blockIdx.x;
  while (true) {
    if constexpr (kHalf) {
      unit = atomicAdd(reinterpret_cast<unsigned long long*>(&node.shares->read_ticket), 1ULL);
    }
    if (unit >= units) break;
    const DeviceRange& range = cursor.at(unit);
    const uint64_t offset = (unit - range.first_unit) * node.chunk_bytes;
    const uint64_t left = range.bytes - offset;
    const uint32_t bytes = left < node.chunk_bytes ? static_cast<uint32_t>(left) : node.chunk_bytes;
    request<kKeep>(range.address + offset, bytes, policy);
    unit += uint64_t{kBulkThreads} * gridDim.x;
  }
  wait_ns(node.clock, node.wait_after_ns);
}

constexpr int kLineThreads = 256;
static_assert(kLineThreads * kLineBytes == kLineUnitBytes);

// One instruction per line. Ranges of these tables begin and end with a line.
template <bool kKeep, bool kHalf>
__global__ void __launch_bounds__(kLineThreads) prefetch_lines(const NodeArgs node) {
  if constexpr (kHalf) {
    if (!stays_on_half(node)) return;
  }
  wait_ns(node.clock, node.wait_before_ns);
  Dealer<kHalf> dealer(kHalf ? &node.shares->read_ticket : nullptr);
  RangeCursor cursor(node.reads);
  const uint64_t units = node.reads->units;
  for (uint64_t unit = dealer.next(); unit < units; unit = dealer.next()) {
    const DeviceRange& range = cursor.at(unit);
    const uint64_t at = (unit - range.first_unit) * kLineUnitBytes + threadIdx.x * kLineBytes;
    if (at >= range.bytes) continue;
    if constexpr (kKeep) {
      asm volatile("prefetch.global.L2::evict_last [%0];" ::"l"(range.address + at) : "memory");
    } else {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(range.address + at) : "memory");
    }
  }
  wait_ns(node.clock, node.wait_after_ns);
}

constexpr int kLoadThreads = 512;
constexpr int kLoads = 8;
static_assert(kLoadThreads * kLoads * sizeof(uint4) == kLoadUnitBytes);

template <bool kKeep>
__device__ uint4 load_line(uint64_t address, uint64_t policy) {
  if constexpr (!kKeep) return load_streaming(address);
  uint4 word;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(address), "l"(policy));
  return word;
}

// Real loads, which no queue drops. What they bring is used in a way that stores nothing and that
// no compiler can leave out: one value in 2^32 makes the thread sleep for a nanosecond.
template <bool kKeep, bool kHalf>
__global__ void __launch_bounds__(kLoadThreads) prefetch_load(const NodeArgs node) {
  if constexpr (kHalf) {
    if (!stays_on_half(node)) return;
  }
  wait_ns(node.clock, node.wait_before_ns);
  const uint64_t policy = kKeep ? keep_policy() : 0;
  uint32_t mixed = 0;
  Dealer<kHalf> dealer(kHalf ? &node.shares->read_ticket : nullptr);
  RangeCursor cursor(node.reads);
  const uint64_t units = node.reads->units;
  for (uint64_t unit = dealer.next(); unit < units; unit = dealer.next()) {
    const DeviceRange& range = cursor.at(unit);
    const uint64_t offset =
        (unit - range.first_unit) * kLoadUnitBytes + threadIdx.x * sizeof(uint4);
    uint4 words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint64_t at = offset + i * kLoadThreads * sizeof(uint4);
      words[i] = make_uint4(0, 0, 0, 0);
      if (at < range.bytes) words[i] = load_line<kKeep>(range.address + at, policy);
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) mixed ^= words[i].x ^ words[i].y ^ words[i].z ^ words[i].w;
  }
  asm volatile(
      "{\n"
      "  .reg .pred same;\n"
      "  setp.eq.u32 same, %0, 0x9E3779B9;\n"
      "  @same nanosleep.u32 1;\n"
      "}" ::"r"(mixed));
  wait_ns(node.clock, node.wait_after_ns);
}

using NodeKernel = void(NodeArgs);

template <bool kHalf>
NodeKernel* choose(GpuFetch fetch, bool keep) {
  switch (fetch) {
    case GpuFetch::bulk_l2:
      return keep ? prefetch_bulk<true, kHalf> : prefetch_bulk<false, kHalf>;
    case GpuFetch::prefetch_l2:
      return keep ? prefetch_lines<true, kHalf> : prefetch_lines<false, kHalf>;
    case GpuFetch::load:
      return keep ? prefetch_load<true, kHalf> : prefetch_load<false, kHalf>;
  }
  return nullptr;
}

}  // namespace

Kernel prefetch_kernel(GpuFetch fetch, GpuEviction eviction, bool half) {
  const bool keep = eviction == GpuEviction::last;
  NodeKernel* function = half ? choose<true>(fetch, keep) : choose<false>(fetch, keep);
  const int threads = fetch == GpuFetch::bulk_l2       ? kBulkThreads
                      : fetch == GpuFetch::prefetch_l2 ? kLineThreads
                                                       : kLoadThreads;
  return {reinterpret_cast<const void*>(function), threads};
}

}  // namespace preserve::cuda
