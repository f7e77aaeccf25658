// SPDX-License-Identifier: Apache-2.0
// Instructions that CUDA C++ has no name for, or none with exactly this meaning. Everything that is
// not plain C++ for CUDA is in this file.
#pragma once

#include <cstdint>

namespace preserve::cuda {

__device__ inline uint64_t timer_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
  return ns;
}

__device__ inline uint32_t sm_index() {
  uint32_t sm;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
  return sm;
}

// Past L1: a hit of these is a hit in L2.
__device__ inline uint4 load_streaming(uint64_t address) {
  uint4 word;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(address));
  return word;
}

__device__ inline uint64_t load_relaxed(uint64_t address) {
  uint64_t word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(address) : "memory");
  return word;
}

// Reductions without a result: the block does not wait for them.
__device__ inline void reduce_min(uint64_t* where, uint64_t value) {
  asm volatile("red.relaxed.gpu.global.min.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(where)),
               "l"(value)
               : "memory");
}
__device__ inline void reduce_max(uint64_t* where, uint64_t value) {
  asm volatile("red.relaxed.gpu.global.max.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(where)),
               "l"(value)
               : "memory");
}
__device__ inline void reduce_add(uint64_t* where, uint64_t value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(where)),
               "l"(value)
               : "memory");
}

// A policy under which lines stay as long as the persisting set-aside has room.
__device__ inline uint64_t keep_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ inline uint4 load_kept(uint64_t address, uint64_t policy) {
  uint4 word;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(address), "l"(policy));
  return word;
}

// Both in multiples of 16, which the instruction demands; what is not is cut. Nothing where there
// are no bulk requests: such kernels are not launched there.
__device__ inline void request_bulk(uint64_t address, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(address & ~uint64_t{15}),
               "r"(bytes & ~15U)
               : "memory");
#endif
}
__device__ inline void request_bulk_kept(uint64_t address, uint32_t bytes, uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" ::"l"(address &
                                                                                     ~uint64_t{15}),
               "r"(bytes & ~15U), "l"(policy)
               : "memory");
#endif
}

__device__ inline void request_line(uint64_t address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address) : "memory");
}
__device__ inline void request_line_kept(uint64_t address) {
  asm volatile("prefetch.global.L2::evict_last [%0];" ::"l"(address) : "memory");
}

// Uses a value in a way that stores nothing and that no compiler can leave out: one value in 2^32
// makes the thread sleep for a nanosecond.
__device__ inline void use_up(uint32_t value) {
  asm volatile(
      "{\n"
      "  .reg .pred same;\n"
      "  setp.eq.u32 same, %0, 0x9E3779B9;\n"
      "  @same nanosleep.u32 1;\n"
      "}" ::"r"(value));
}

// What computes the value stays before this, what uses it after.
__device__ inline void pin(float& value) {
  asm volatile("" : "+f"(value)::"memory");
}

}  // namespace preserve::cuda
