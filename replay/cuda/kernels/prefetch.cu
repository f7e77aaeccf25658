// SPDX-License-Identifier: Apache-2.0
// The prefetches: they read the table, ask for lines, and store nothing. Kernels without kHalf have
// no store, reduction or atomic operation at all, which a test reads in their PTX.
#include "replay/cuda/kernels/device_code.cuh"
#include "replay/cuda/kernels/kernels.h"

namespace preserve::cuda {
namespace {

constexpr int kBulkThreads = 128;

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
    if constexpr (kKeep) {
      request_bulk_kept(range.address + offset, bytes, policy);
    } else {
      request_bulk(range.address + offset, bytes);
    }
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
      request_line_kept(range.address + at);
    } else {
      request_line(range.address + at);
    }
  }
  wait_ns(node.clock, node.wait_after_ns);
}

constexpr int kLoadThreads = 512;
constexpr int kLoads = 8;
static_assert(kLoadThreads * kLoads * sizeof(uint4) == kLoadUnitBytes);

// Real loads, which no queue drops.
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
      if (at < range.bytes) {
        words[i] =
            kKeep ? load_kept(range.address + at, policy) : load_streaming(range.address + at);
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) mixed ^= words[i].x ^ words[i].y ^ words[i].z ^ words[i].w;
  }
  use_up(mixed);
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
  return kernel(function, threads);
}

}  // namespace preserve::cuda
