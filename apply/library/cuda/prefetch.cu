// SPDX-License-Identifier: Apache-2.0
// The kernels of the nodes that are added to a program's graphs: they read their parameters and the
// switch, ask for lines, and store nothing.
#include "apply/library/cuda/prefetch_args.h"
#include "replay/cuda/kernels/instructions.cuh"

namespace {

using namespace preserve;
using apply::PrefetchArgs;
using apply::PrefetchRange;

constexpr uint32_t kLineBytes = 128;

// Calls `request(address, bytes)` for each piece of the ranges that is this thread's. Pieces of one
// turn are dealt to the blocks first, so that the queues of all SMs work on neighbouring addresses.
template <typename Request>
__device__ void each_piece(const PrefetchArgs& args, uint32_t piece_bytes, Request request) {
  const uint64_t both = *reinterpret_cast<const volatile uint64_t*>(args.applied);
  if (static_cast<uint32_t>(both) == 0 || both >> 32 != 0) return;
  const uint64_t step = uint64_t{apply::kPrefetchThreads} * gridDim.x * piece_bytes;
  const uint64_t first = (uint64_t{threadIdx.x} * gridDim.x + blockIdx.x) * piece_bytes;
  for (uint32_t i = 0; i < args.ranges; ++i) {
    const PrefetchRange range = args.range[i];
    for (uint64_t at = first; at < range.bytes; at += step) {
      const uint64_t left = range.bytes - at;
      request(range.address + at, left < piece_bytes ? static_cast<uint32_t>(left) : piece_bytes);
    }
  }
}

}  // namespace

extern "C" {

__global__ void __launch_bounds__(128) preserve_bulk_l2(const PrefetchArgs args) {
  each_piece(args, args.chunk_bytes,
             [](uint64_t address, uint32_t bytes) { cuda::request_bulk(address, bytes); });
}
__global__ void __launch_bounds__(128) preserve_bulk_l2_kept(const PrefetchArgs args) {
  const uint64_t policy = cuda::keep_policy();
  each_piece(args, args.chunk_bytes, [policy](uint64_t address, uint32_t bytes) {
    cuda::request_bulk_kept(address, bytes, policy);
  });
}
__global__ void __launch_bounds__(128) preserve_prefetch_l2(const PrefetchArgs args) {
  each_piece(args, kLineBytes, [](uint64_t address, uint32_t) { cuda::request_line(address); });
}
__global__ void __launch_bounds__(128) preserve_prefetch_l2_kept(const PrefetchArgs args) {
  each_piece(args, kLineBytes,
             [](uint64_t address, uint32_t) { cuda::request_line_kept(address); });
}
// Real loads, which no queue drops: one word of each sector of 32 bytes.
__global__ void __launch_bounds__(128) preserve_load(const PrefetchArgs args) {
  uint32_t mixed = 0;
  each_piece(args, 32,
             [&mixed](uint64_t address, uint32_t) { mixed ^= cuda::load_streaming(address).x; });
  cuda::use_up(mixed);
}
__global__ void __launch_bounds__(128) preserve_load_kept(const PrefetchArgs args) {
  const uint64_t policy = cuda::keep_policy();
  uint32_t mixed = 0;
  each_piece(args, 32, [&mixed, policy](uint64_t address, uint32_t) {
    mixed ^= cuda::load_kept(address, policy).x;
  });
  cuda::use_up(mixed);
}
}
