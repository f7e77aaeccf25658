// SPDX-License-Identifier: Apache-2.0
// What a GPU's calibration tries: footprints, ways of issuing, windows. Entries come without
// samples. Pure.
#pragma once

#include "replay/gpu/calibrate/calibration.h"

namespace preserve {

// Footprints are multiples of a sixteenth of L2, up to one and a half.
inline constexpr int kL2Parts = 16, kMostParts = 24;
// Half of L2: what it surely holds, however it is divided.
inline constexpr int kHeldParts = 8;

int64_t whole_blocks(int64_t bytes);  // in kGpuPatternBytes, at least one
int64_t part_of_l2(const GpuFacts& facts, int parts);
// Fewest sixteenths of L2 that are more than `bytes`, at most half.
int64_t held_more_than(const GpuFacts& facts, double bytes);

// What this GPU can do, in the order of GpuFetch.
std::vector<GpuFetch> fetches_of(const GpuFacts& facts);
// Lines can be marked to be evicted last.
bool can_mark_last(const GpuFacts& facts);

std::vector<FootprintTimes> plan_footprints(const GpuFacts& facts);
std::vector<HalfTimes> plan_halves(const GpuFacts& facts);
// Every way of issuing in windows of kRankHoldsNs, with more bytes than the memory can deliver in
// them as long as L2 holds those. `every_chunk`: else every third.
std::vector<WindowTimes> plan_grid(const GpuFacts& facts, double memory_bytes_per_ns,
                                   bool every_chunk);
// Windows of several sizes around those that save everything, if `saved_bytes_per_ns` is near the
// truth.
RampTimes plan_ramp(const GpuFacts& facts, const GpuIssue& issue, StartWay way,
                    double saved_bytes_per_ns);
// Without fetched_bytes, which a third of the stand-in's time should take.
std::vector<OperatorTimes> plan_operators(const GpuFacts& facts,
                                          const std::vector<GpuIssue>& issues);
std::vector<EvictionTimes> plan_evictions(const GpuFacts& facts);

}  // namespace preserve
