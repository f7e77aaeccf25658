// SPDX-License-Identifier: Apache-2.0
// What the kernels share: waiting, time stamps, dealing out units.
#pragma once

#include "replay/cuda/kernels/device_types.h"
#include "replay/cuda/kernels/instructions.cuh"

namespace preserve::cuda {

// Spins from `begin` (cycles of this SM) until `ns` have passed. The timer bounds the spinning: a
// block that was preempted may go on on another SM, whose cycles are others.
__device__ inline void spin(const ClockRate* clock, long long begin, uint64_t ns) {
  const float rate = *static_cast<const volatile float*>(&clock->cycles_per_ns);
  const long long cycles = static_cast<long long>(static_cast<double>(rate) * ns);
  const uint64_t latest = timer_ns() + 2 * ns + 100'000;
  for (uint32_t turn = 1; clock64() - begin < cycles; ++turn) {
    if (turn % 256 == 0 && timer_ns() >= latest) return;
  }
}

// All threads of the block.
__device__ inline void wait_ns(const ClockRate* clock, uint64_t ns) {
  if (ns == 0) return;
  if (threadIdx.x == 0) spin(clock, clock64(), ns);
  __syncthreads();
}

__device__ inline void begin_node(const NodeArgs& node, bool stamps) {
  wait_ns(node.clock, node.wait_before_ns);
  if (stamps && threadIdx.x == 0 && node.slot != nullptr) reduce_min(&node.slot->first, timer_ns());
}

__device__ inline void end_node(const NodeArgs& node) {
  __syncthreads();
  wait_ns(node.clock, node.wait_after_ns);
  if (threadIdx.x == 0 && node.slot != nullptr) reduce_max(&node.slot->last, timer_ns());
}

// Blocks on SMs of the other half end without work, but only after all have begun, so that the
// SMs they would free do not attract the rest of the grid; at most 20 us, so that nothing depends
// on the whole grid fitting at once. The answer is the same for all threads of the block.
__device__ inline bool stays_on_half(const NodeArgs& node) {
  __shared__ bool stays;
  if (threadIdx.x == 0) {
    atomicAdd(&node.shares->arrived, 1U);
    const uint32_t sm = sm_index();
    stays = sm < node.sms && node.sm_halves[sm] == node.half &&
            (node.places == 0 || atomicAdd(&node.shares->place, 1U) < node.places);
    if (!stays) {
      const uint64_t latest = timer_ns() + 20'000;
      while (*static_cast<const volatile uint32_t*>(&node.shares->arrived) < gridDim.x &&
             timer_ns() < latest) {
      }
    }
  }
  __syncthreads();
  return stays;
}

// Deals the units of a table to the blocks in address order: in turn, or by a ticket where it is
// not known how many blocks stay.
template <bool kHalf>
class Dealer {
 public:
  __device__ explicit Dealer(uint64_t* ticket) : ticket_(ticket), unit_(blockIdx.x) {}

  // The unit of this block's next turn; beyond the table's when there is none. All threads.
  __device__ uint64_t next() {
    if constexpr (kHalf) {
      __shared__ uint64_t drawn;
      __syncthreads();
      if (threadIdx.x == 0) {
        drawn = atomicAdd(reinterpret_cast<unsigned long long*>(ticket_), 1ULL);
      }
      __syncthreads();
      return drawn;
    } else {
      const uint64_t unit = unit_;
      unit_ += gridDim.x;
      return unit;
    }
  }

 private:
  uint64_t* ticket_;
  uint64_t unit_;
};

// Finds the range of a unit: mostly that of the unit before, or the next; else by bisection. Units
// must come in ascending order.
class RangeCursor {
 public:
  __device__ explicit RangeCursor(const RangeTable* table)
      : entry_(reinterpret_cast<const DeviceRange*>(table + 1)), last_(entry_ + table->count) {}

  __device__ const DeviceRange& at(uint64_t unit) {
    if (unit < first_of(entry_ + 1)) return *entry_;
    ++entry_;
    if (unit < first_of(entry_ + 1)) return *entry_;
    const DeviceRange* beyond = last_;  // the range lies in [entry_, beyond)
    while (beyond - entry_ > 1) {
      const DeviceRange* middle = entry_ + (beyond - entry_) / 2;
      if (unit < first_of(middle)) {
        beyond = middle;
      } else {
        entry_ = middle;
      }
    }
    return *entry_;
  }

 private:
  __device__ static uint64_t first_of(const DeviceRange* entry) {
    return __ldg(reinterpret_cast<const unsigned long long*>(&entry->first_unit));
  }
  const DeviceRange* entry_;
  const DeviceRange* last_;
};

}  // namespace preserve::cuda
