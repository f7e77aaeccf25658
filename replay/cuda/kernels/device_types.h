// SPDX-License-Identifier: Apache-2.0
// What host and device both see in device memory. Plain structs; a graph's lie in one block.
#pragma once

#include <cstdint>

namespace preserve::cuda {

inline constexpr uint64_t kNever = ~uint64_t{0};  // StampSlot::first of a node that did not run

// One range of a table. A table is a RangeTable, its entries, and a last entry without bytes whose
// first_unit is the number of units; a kernel's blocks are dealt units in the order of the table.
struct DeviceRange {
  uint64_t address;
  uint64_t bytes;
  uint64_t first_unit;  // units in all entries before this one
};
struct RangeTable {
  uint64_t count;  // entries before the last; 0: nothing to do
  uint64_t units;
};

// Begin and end of one node in the nanoseconds of the GPU's timer, and their sums since run()
// began, each counted from the beginning of its step.
struct StampSlot {
  uint64_t first, last;
  uint64_t sum_first, sum_last;
  uint64_t wait_before_ns;  // the node began that long before `first`
};

// How the blocks of a node share its work where only some of them stay (GpuNode::sm_half).
struct Shares {
  uint64_t read_ticket, write_ticket;  // next unit
  uint32_t place;                      // blocks that wanted to stay
  uint32_t arrived;                    // blocks that have begun
};

// Waits count the cycles of an SM. How many are in a nanosecond is measured when a run begins and
// again in every step, because the clock moves and the timer is too coarse (about 1 us on some
// GPUs) to wait by.
struct ClockRate {
  uint64_t anchor_cycles, anchor_ns;  // 0: none
  uint32_t anchor_sm;
  float cycles_per_ns;
};

// Checksums are summed in words that lie in different cache lines, since all blocks end at once.
inline constexpr int kSumWords = 32;
inline constexpr int kSumStride = 16;

struct StepTotals {
  uint64_t steps;
  uint64_t checksum;         // of the first step
  uint64_t differing_steps;  // whose checksum is another one
  uint64_t missing_stamps;
  uint64_t sums[kSumWords * kSumStride];
};

// The argument of every kernel that is a node; each reads what concerns it.
struct NodeArgs {
  StampSlot* slot;  // nullptr: not timed
  const ClockRate* clock;
  uint64_t wait_before_ns, wait_after_ns;

  const uint8_t* sm_halves;  // 1 or 2 by SM
  Shares* shares;
  uint32_t sms;
  uint32_t half;
  uint32_t places;  // most blocks that stay; 0: any number

  uint32_t wrap_pages;  // read: pages of 4096 bytes
  const RangeTable* reads;
  const RangeTable* writes;
  uint64_t* sums;

  uint32_t chunk_bytes;  // prefetch by bulk requests

  uint32_t link_mask;  // stand-in: 16-byte words of the host buffer, less one
  void* link;
  uint64_t link_words;
  uint64_t hold_ns;

  uint64_t chain, chain_lines, hops;
};

struct ClosingArgs {
  StampSlot* slots;
  Shares* shares;
  StepTotals* totals;
  ClockRate* clock;
  uint32_t slot_count, share_count;
};

inline constexpr uint64_t kLineBytes = 128;
// Unit of each kernel that deals ranges: what one block takes at a time.
inline constexpr uint64_t kReadUnitBytes = 16384;
inline constexpr uint64_t kLineUnitBytes = 32768;
inline constexpr uint64_t kLoadUnitBytes = 65536;

}  // namespace preserve::cuda
