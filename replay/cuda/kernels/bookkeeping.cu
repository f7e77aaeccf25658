// SPDX-License-Identifier: Apache-2.0
// The kernels around a step: its books, memory, and what is measured of the device itself.
#include "replay/cuda/kernels/device_code.cuh"
#include "replay/cuda/kernels/kernels.h"

namespace preserve::cuda {
namespace {

constexpr int kThreads = 256;

__device__ void reset_step(const ClosingArgs& args) {
  for (uint32_t i = threadIdx.x; i < args.slot_count; i += kThreads) {
    args.slots[i].first = kNever;
    args.slots[i].last = 0;
  }
  for (uint32_t i = threadIdx.x; i < args.share_count; i += kThreads) args.shares[i] = Shares{};
  for (int i = threadIdx.x; i < kSumWords; i += kThreads) args.totals->sums[i * kSumStride] = 0;
}

// The clock may have slept or changed since the last run. A timer of 1 us errs by half a percent.
__device__ void measure_clock(ClockRate* clock) {
  constexpr uint64_t kLengthNs = 200'000;
  const uint64_t before = timer_ns();
  uint64_t begin = before;
  while (begin == before) begin = timer_ns();  // start on a tick
  const long long cycles = clock64();
  uint64_t now = begin;
  while (now - begin < kLengthNs) now = timer_ns();
  clock->cycles_per_ns = static_cast<float>(clock64() - cycles) / static_cast<float>(now - begin);
  clock->anchor_ns = 0;  // nothing to compare with: the steps may close on another SM
}

__global__ void __launch_bounds__(kThreads) opening(const ClosingArgs args) {
  reset_step(args);
  for (uint32_t i = threadIdx.x; i < args.slot_count; i += kThreads) {
    args.slots[i].sum_first = args.slots[i].sum_last = 0;
  }
  if (threadIdx.x != 0) return;
  args.totals->steps = args.totals->checksum = 0;
  args.totals->differing_steps = args.totals->missing_stamps = 0;
  measure_clock(args.clock);
}

// Compares the clock with the timer. Both are read by one SM, else they cannot be compared.
__device__ void update_clock(ClockRate* clock) {
  constexpr uint64_t kShortestNs = 200'000;  // a timer of 1 us then errs by half a percent
  const uint64_t now_ns = timer_ns();
  const uint64_t now_cycles = clock64();
  if (clock->anchor_ns != 0 && clock->anchor_sm == sm_index()) {
    const uint64_t ns = now_ns - clock->anchor_ns;
    if (ns < kShortestNs) return;
    const float rate =
        static_cast<float>(now_cycles - clock->anchor_cycles) / static_cast<float>(ns);
    if (rate > 0.05F && rate < 10.0F) clock->cycles_per_ns = rate;
  }
  clock->anchor_ns = now_ns;
  clock->anchor_cycles = now_cycles;
  clock->anchor_sm = sm_index();
}

__device__ void close_checksum(StepTotals* totals) {
  uint64_t sum = 0;
  for (int i = 0; i < kSumWords; ++i) sum += totals->sums[i * kSumStride];
  if (totals->steps == 0) totals->checksum = sum;
  if (sum != totals->checksum) ++totals->differing_steps;
  ++totals->steps;
}

__global__ void __launch_bounds__(kThreads) closing(const ClosingArgs args) {
  __shared__ unsigned long long begin;
  if (threadIdx.x == 0) {
    begin = kNever;
    close_checksum(args.totals);
    update_clock(args.clock);
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < args.slot_count; i += kThreads) {
    const StampSlot& slot = args.slots[i];
    if (slot.first != kNever) atomicMin(&begin, slot.first - slot.wait_before_ns);
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < args.slot_count; i += kThreads) {
    StampSlot& slot = args.slots[i];
    if (slot.first == kNever || slot.last == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&args.totals->missing_stamps), 1ULL);
      continue;
    }
    slot.sum_first += slot.first - begin;
    slot.sum_last += slot.last - begin;
  }
  __syncthreads();
  reset_step(args);
}

__global__ void __launch_bounds__(kThreads) fill(uint64_t address, uint64_t bytes) {
  const uint64_t stride = uint64_t{gridDim.x} * kThreads * sizeof(uint4);
  for (uint64_t at = (uint64_t{blockIdx.x} * kThreads + threadIdx.x) * sizeof(uint4); at < bytes;
       at += stride) {
    *reinterpret_cast<uint4*>(address + at) =
        make_uint4(gpu_pattern_word(at), gpu_pattern_word(at + 4), gpu_pattern_word(at + 8),
                   gpu_pattern_word(at + 12));
  }
}

__global__ void __launch_bounds__(kThreads)
    link_lines(uint64_t address, const uint64_t* next, uint64_t lines) {
  const uint64_t stride = uint64_t{gridDim.x} * kThreads;
  for (uint64_t i = uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < lines; i += stride) {
    *reinterpret_cast<uint64_t*>(address + i * kLineBytes) = address + next[i] * kLineBytes;
  }
}

__global__ void arithmetic(uint64_t* out, uint64_t rounds) {
  float value = 1.0F;
  const uint64_t begin = timer_ns();
  pin(value);  // the arithmetic stays between the two times
  for (uint64_t i = 0; i < rounds; ++i) {
#pragma unroll
    for (int j = 0; j < 16; ++j) value = fmaf(value, 0.999F, 0.001F);
  }
  pin(value);
  const uint64_t end = timer_ns();
  out[0] = end - begin;
  out[1] = __float_as_uint(value);
}

__global__ void timer_tick(uint64_t* out) {
  constexpr int kSteps = 32;
  uint64_t least = kNever;
  uint64_t before = timer_ns();
  for (int steps = 0; steps < kSteps;) {
    const uint64_t now = timer_ns();
    if (now == before) continue;
    least = now - before < least ? now - before : least;
    before = now;
    ++steps;
  }
  out[0] = least;
}

__global__ void sm_latency(uint64_t* out, uint32_t sm, uint64_t chain, uint32_t hops) {
  if (sm_index() != sm) return;
  auto* claimed = reinterpret_cast<unsigned long long*>(out);
  if (atomicCAS(claimed, 0ULL, 1ULL) != 0) return;
  uint64_t at = chain;
  for (uint32_t i = 0; i < 32; ++i) at = atomicAdd(reinterpret_cast<unsigned long long*>(at), 0ULL);
  const long long begin = clock64();
  for (uint32_t i = 0; i < hops; ++i) {
    at = atomicAdd(reinterpret_cast<unsigned long long*>(at), 0ULL);
  }
  const long long end = clock64();
  if (at == 0) __trap();
  out[1] = static_cast<uint64_t>(end - begin);
}

}  // namespace

Kernel opening_kernel() {
  return kernel(opening, kThreads);
}
Kernel closing_kernel() {
  return kernel(closing, kThreads);
}
Kernel fill_kernel() {
  return kernel(fill, kThreads);
}
Kernel link_kernel() {
  return kernel(link_lines, kThreads);
}
Kernel arithmetic_kernel() {
  return kernel(arithmetic, 1);
}
Kernel timer_tick_kernel() {
  return kernel(timer_tick, 1);
}
Kernel sm_latency_kernel() {
  return kernel(sm_latency, 1);
}

}  // namespace preserve::cuda
