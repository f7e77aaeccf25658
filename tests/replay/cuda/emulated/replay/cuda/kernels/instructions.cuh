// SPDX-License-Identifier: Apache-2.0
// In place of replay/cuda/kernels/instructions.cuh where the kernels are compiled for the CPU:
// CUDA's words, and the instructions as what they do to memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "tests/replay/cuda/emulated_gpu.h"

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define threadIdx (::preserve::emulated::here().thread)
#define blockIdx (::preserve::emulated::here().block)
#define gridDim (::preserve::emulated::here().grid)

namespace preserve::cuda {

struct uint4 {
  uint32_t x, y, z, w;
};
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}

inline void __syncthreads() {
  emulated::barrier();
}
inline void __threadfence_system() {}
inline void __trap() {
  throw std::runtime_error("trap");
}
inline long long clock64() {
  return emulated::clock_cycles();
}
inline uint64_t __shfl_down_sync(unsigned, uint64_t value, int distance) {
  return emulated::shuffle_down(value, distance);
}
inline uint32_t __float_as_uint(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}
using std::fmaf;
template <typename T>
T __ldg(const T* address) {
  return *address;
}
// Atomic operations reach a place in L2 that is farther from SMs with an odd number.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  emulated::advance(emulated::sm_index() % 2 == 0 ? 100 : 250);
  const T old = *address;
  *address = old + value;
  return old;
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  *address = std::min<T>(old, value);
  return old;
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

inline uint64_t timer_ns() {
  return emulated::timer_ns();
}
inline uint32_t sm_index() {
  return emulated::sm_index();
}

inline uint4 load_streaming(uint64_t address) {
  emulated::request(address, sizeof(uint4), false);
  return *reinterpret_cast<const uint4*>(address);
}
inline uint4 load_kept(uint64_t address, uint64_t) {
  emulated::request(address, sizeof(uint4), true);
  return *reinterpret_cast<const uint4*>(address);
}
inline uint64_t load_relaxed(uint64_t address) {
  emulated::advance(200);
  emulated::request(address, sizeof(uint64_t), false);
  return *reinterpret_cast<const uint64_t*>(address);
}
inline void reduce_min(uint64_t* where, uint64_t value) {
  *where = std::min(*where, value);
}
inline void reduce_max(uint64_t* where, uint64_t value) {
  *where = std::max(*where, value);
}
inline void reduce_add(uint64_t* where, uint64_t value) {
  *where += value;
}

inline uint64_t keep_policy() {
  return 1;
}
inline void request_bulk(uint64_t address, uint32_t bytes) {
  emulated::request(address, bytes, false);
}
inline void request_bulk_kept(uint64_t address, uint32_t bytes, uint64_t) {
  emulated::request(address, bytes, true);
}
inline void request_line(uint64_t address) {
  emulated::request(address, 128, false);
}
inline void request_line_kept(uint64_t address) {
  emulated::request(address, 128, true);
}
inline void use_up(uint32_t) {}
inline void pin(float&) {}

}  // namespace preserve::cuda
