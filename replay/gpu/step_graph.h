// SPDX-License-Identifier: Apache-2.0
// A step as a graph of GPU nodes: an operator is a node of one chain, what an arm adds are
// side branches of it. Pure. docs/replay.md explains the mapping.
#pragma once

#include <optional>
#include <vector>

#include "replay/gpu/device.h"
#include "replay/step/program.h"

namespace preserve {

// Where things lie on the device.
struct GraphMemory {
  std::vector<GpuAddress> tensors;  // by StepProgram::tensors; 0 where that is empty
  GpuRange hot;                     // whole patterns, what arm hot reads again and again
  GpuRange useless;                 // whole patterns, fetched and never read
};

// Time that is held, because memory and launches do not explain it. Found by StepTimes.
struct OpWaits {
  int64_t before_ns = 0, after_ns = 0;
};
struct StepWaits {
  std::vector<OpWaits> ops;
  int64_t tail_ns = 0;  // after the last operator
};

struct GraphRules {
  int sms = 0;
  bool nccl = false;                      // collectives are real ones, else stand-ins
  double host_link_bytes_per_s = 0;       // what stand-ins move their message over; 0: they do not
  int64_t network_latency_ns = 0;         // added to every stand-in
  std::vector<GpuElement> multiplies;     // types of matrix products that can be run
  std::vector<int64_t> overlap_chunk_ns;  // by operator; 0: arm overlap leaves it whole
};

inline constexpr int kOverlapChunks = 4;
// Rows and columns of a product's weights are multiples of this, its pieces' rows too.
inline constexpr int64_t kProductRows = 16;
// CTAs of a stand-in whose number of blocks was not recorded: NCCL's smallest usual grid.
inline constexpr int kStandInCtas = 16;
inline constexpr int kPrefetchCtas = 16;

// The device's ways of prefetching and of eviction by their names in schedule.json.
std::optional<GpuFetch> gpu_fetch(const std::string& method);
std::optional<GpuEviction> gpu_eviction(const std::string& eviction);

// True for what becomes a collective or a stand-in: all that communicates.
bool communicates(const ProgramOp& op);
// The product that this operator is rebuilt as; nothing: it is streamed.
std::optional<GpuElement> product_of(const ProgramOp& op, const GraphRules& rules);
// Whether its node can wait inside; others need a parallel node, which costs a launch.
bool can_wait(const ProgramOp& op, const GraphRules& rules);
// Whether arm hot streams this product: its weights do not fit into the hot block.
bool streamed_when_hot(const ProgramOp& op, const GraphRules& rules, const GraphMemory& memory);

// The arm's methods have names that gpu_fetch() and gpu_eviction() know, chunks of a multiple of 16
// bytes.
GpuGraph graph_of(const StepProgram& program, const ReplayArm& arm, const GraphMemory& memory,
                  const GraphRules& rules, const StepWaits& waits);

// Reads, as arm hot streams them, the weights of the products that are streamed_when_hot().
GpuGraph streamed_products(const StepProgram& program, const GraphMemory& memory,
                           const GraphRules& rules);

}  // namespace preserve
