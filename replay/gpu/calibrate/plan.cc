// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/plan.h"

#include <algorithm>

namespace preserve {
namespace {

constexpr int kCtas[] = {1, 2, 4, 8, 16, 32};
constexpr int64_t kLineBytes = 128, kMostChunk = 64 << 10;
// More bytes than the memory can deliver in a window of the grid.
constexpr double kMoreThanMemory = 1.2;
constexpr int kRampParts[] = {2, 4, 6, 8};
constexpr int64_t kHoldsNs[] = {250,    500,    1'000,  1'500,  2'000,  2'500,  3'000,
                                3'500,  4'000,  4'500,  5'000,  5'500,  6'000,  7'000,
                                8'000,  9'000,  10'000, 12'000, 14'000, 16'000, 18'000,
                                20'000, 25'000, 32'000, 40'000};
// Part of the time that is expected for saving everything, and how much later it may begin.
constexpr double kEarly = 0.3, kLate = 1.2, kLatestStartNs = 3'000;
constexpr int kEvictionParts = 2;  // less than the set-asides that drivers choose

// Only bulk requests have a size that can be chosen.
std::vector<int64_t> chunks_of(GpuFetch fetch, bool every_chunk) {
  if (fetch != GpuFetch::bulk_l2) return {kLineBytes};
  std::vector<int64_t> chunks;
  for (int64_t chunk = kLineBytes; chunk <= kMostChunk; chunk *= every_chunk ? 2 : 8) {
    chunks.push_back(chunk);
  }
  return chunks;
}

}  // namespace

int64_t whole_blocks(int64_t bytes) {
  return std::max<int64_t>(1, bytes / kGpuPatternBytes) * kGpuPatternBytes;
}

int64_t part_of_l2(const GpuFacts& facts, int parts) {
  return whole_blocks(facts.l2_bytes * parts / kL2Parts);
}

int64_t held_more_than(const GpuFacts& facts, double bytes) {
  for (int parts = 1; parts < kHeldParts; ++parts) {
    if (static_cast<double>(part_of_l2(facts, parts)) > bytes) return part_of_l2(facts, parts);
  }
  return part_of_l2(facts, kHeldParts);
}

std::vector<GpuFetch> fetches_of(const GpuFacts& facts) {
  if (facts.compute_major < 9) return {GpuFetch::prefetch_l2, GpuFetch::load};
  return {GpuFetch::bulk_l2, GpuFetch::prefetch_l2, GpuFetch::load};
}

bool can_mark_last(const GpuFacts& facts) {
  return facts.compute_major >= 8 && facts.persisting_l2_max_bytes > 0;
}

std::vector<FootprintTimes> plan_footprints(const GpuFacts& facts) {
  std::vector<FootprintTimes> footprints;
  for (int parts = 1; parts <= kMostParts; ++parts) {
    footprints.push_back({part_of_l2(facts, parts), {}, {}});
  }
  return footprints;
}

std::vector<HalfTimes> plan_halves(const GpuFacts& facts) {
  std::vector<HalfTimes> halves;
  for (const int parts : {2, 4, 6, 8, 12}) {
    for (const int filled_by : {1, 2}) {
      for (const int read_by : {1, 2}) {
        halves.push_back({filled_by, read_by, part_of_l2(facts, parts), {}});
      }
    }
  }
  return halves;
}

std::vector<WindowTimes> plan_grid(const GpuFacts& facts, double memory_bytes_per_ns,
                                   bool every_chunk) {
  std::vector<WindowTimes> grid;
  for (const GpuFetch fetch : fetches_of(facts)) {
    for (const int ctas : kCtas) {
      if (ctas > facts.sms) continue;
      for (const int64_t chunk : chunks_of(fetch, every_chunk)) {
        for (const int64_t hold_ns : kRankHoldsNs) {
          const double delivered = memory_bytes_per_ns * static_cast<double>(hold_ns);
          const int64_t bytes = held_more_than(facts, kMoreThanMemory * delivered);
          grid.push_back({{fetch, ctas, chunk, GpuEviction::normal}, hold_ns, bytes, {}, {}});
        }
      }
    }
  }
  return grid;
}

RampTimes plan_ramp(const GpuFacts& facts, const GpuIssue& issue, StartWay way,
                    double saved_bytes_per_ns) {
  RampTimes ramp{way, {}};
  for (const int parts : kRampParts) {
    const int64_t bytes = part_of_l2(facts, parts);
    const double expected_ns = static_cast<double>(bytes) / saved_bytes_per_ns;
    for (const int64_t hold_ns : kHoldsNs) {
      const auto hold = static_cast<double>(hold_ns);
      if (hold < kEarly * expected_ns || hold > kLate * expected_ns + kLatestStartNs) continue;
      ramp.windows.push_back({issue, hold_ns, bytes, {}, {}});
    }
  }
  return ramp;
}

std::vector<OperatorTimes> plan_operators(const GpuFacts& facts,
                                          const std::vector<GpuIssue>& issues) {
  // A block asks for 16 KiB at a time and waits for them: some 20 GB/s. Attention of one sequence
  // reads at 40 GB/s on an H100 (512 KiB in 12 us); each of these takes 20 to 50 us there.
  struct StandIn {
    OperatorClass of;
    int ctas;
    int64_t bytes;
  };
  const StandIn stand_ins[] = {
      {OperatorClass::product, 0, part_of_l2(facts, kL2Parts)},
      {OperatorClass::attention, 2, std::min(int64_t{2} << 20, part_of_l2(facts, kL2Parts / 4))},
      {OperatorClass::small, 1, std::min(int64_t{1} << 20, part_of_l2(facts, kL2Parts / 8))}};
  std::vector<OperatorTimes> operators;
  for (const GpuIssue& issue : issues) {
    for (const StandIn& one : stand_ins) {
      operators.push_back({issue, one.of, one.ctas, one.bytes, 0, {}, {}});
    }
  }
  return operators;
}

std::vector<EvictionTimes> plan_evictions(const GpuFacts& facts) {
  if (!can_mark_last(facts)) return {};
  std::vector<EvictionTimes> evictions;
  for (const SetAside set_aside : {SetAside::as_found, SetAside::none, SetAside::largest}) {
    for (const GpuEviction eviction : {GpuEviction::normal, GpuEviction::last}) {
      evictions.push_back({set_aside,
                           eviction,
                           part_of_l2(facts, kEvictionParts),
                           part_of_l2(facts, kL2Parts),
                           {}});
    }
  }
  return evictions;
}

}  // namespace preserve
