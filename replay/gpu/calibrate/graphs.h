// SPDX-License-Identifier: Apache-2.0
// The experiments of a GPU's calibration as graphs. The comment of each names its slots.
// Every graph that speaks of cold memory first reads `flush`. Pure.
#pragma once

#include "replay/gpu/calibrate/calibration.h"

namespace preserve {

struct CalibrationMemory {
  GpuRange flush;    // several L2s
  GpuRange data;     // what is read and prefetched: heads of it
  GpuRange traffic;  // one L2 of other bytes
  GpuRange chain;    // make_chain()
  int stand_in_ctas = 1;
};

GpuGraph memory_read_graph(const CalibrationMemory& memory);                  // 0: flush
GpuGraph footprint_graph(const CalibrationMemory& memory, int64_t bytes);     // 0 cold, 1 again
GpuGraph half_graph(const CalibrationMemory& memory, const HalfTimes& half);  // 0: again
GpuGraph chain_graph(const CalibrationMemory& memory, int nodes);             // step
// A chain of reads with leaves at kLeafPlaces of them in turn: step, launch.
inline constexpr int kLeafPlaces = 16;
GpuGraph leaves_graph(const CalibrationMemory& memory, GpuFetch fetch, int leaves);

// 0 stand-in, 1 the consumer, which waits for the stand-in alone.
GpuGraph window_graph(const CalibrationMemory& memory, const WindowTimes& window,
                      StartWay way = StartWay::leaf);
// 0: the consumer, when all has arrived.
GpuGraph arrived_graph(const CalibrationMemory& memory, const ArrivedTimes& arrived);
GpuGraph retired_graph(const CalibrationMemory& memory, const RetiredTimes& retired);  // 0, 1 read
GpuGraph eviction_graph(const CalibrationMemory& memory, const GpuIssue& issue,
                        const EvictionTimes& times);  // 0: the consumer
// 0: the transfer. Without `issue` nothing is prefetched.
GpuGraph link_graph(const CalibrationMemory& memory, const LinkTimes& times, const GpuIssue* issue);
// 0: the operator. `fetching`: beside the prefetch.
GpuGraph operator_graph(const CalibrationMemory& memory, const OperatorTimes& times, bool fetching);
// 0: the chase, over lines that are cached or not.
GpuGraph chase_graph(const CalibrationMemory& memory, int64_t hops, bool cached, int64_t bytes,
                     const GpuIssue* issue);

}  // namespace preserve
