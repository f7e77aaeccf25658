// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/overlap.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "planner/schedule/collective_time.h"
#include "replay/gpu/step_graph.h"

namespace preserve {
namespace {

constexpr int64_t kLeastPieceBytes = 16;

bool can_be_split(const ProgramOp& op) {
  if (communicates(op)) return false;
  if (op.gemm && op.gemm->n < kOverlapChunks * kProductRows) return false;
  int64_t bytes = 0;
  for (const TensorSlice& slice : op.weights) bytes += slice.bytes;
  for (const TensorSlice& slice : op.reads) bytes += slice.bytes;
  return bytes >= kOverlapChunks * kLeastPieceBytes;
}

int64_t piece_ns(const ProgramOp& op, const DeviceModel& fits, int64_t ranks) {
  const StepCollective& collective = *op.collective;
  const int64_t bytes = *collective.bytes;
  const double whole = collective_time(fits, collective.function, ranks, bytes).dur_ns;
  const double piece =
      collective_time(fits, collective.function, ranks, bytes / kOverlapChunks).dur_ns;
  return std::max<int64_t>(1, std::llround(static_cast<double>(op.dur_ns) * piece / whole));
}

}  // namespace

OverlapChunks overlap_chunks(const StepProgram& program, const DeviceModel* fits, int64_t ranks,
                             bool nccl) {
  OverlapChunks result;
  result.chunk_ns.resize(program.ops.size());
  for (size_t i = 1; i < program.ops.size(); ++i) {
    const ProgramOp& op = program.ops[i];
    if (!op.collective) continue;
    if (op.collective->bytes.value_or(0) < kOverlapChunks * kLeastPieceBytes) {
      result.why_not = "the size of a collective is unknown, or too small to be split";
    } else if (!can_be_split(program.ops[i - 1])) {
      result.why_not = "the operator before a collective reads too little to be split";
    } else if (nccl) {
      result.chunk_ns[i] = 1;
    } else if (fits == nullptr) {
      result.why_not =
          "how long a piece of a collective takes is not known: pass the device.json "
          "with fits of collectives as --device-file";
    } else {
      try {
        result.chunk_ns[i] = piece_ns(op, *fits, ranks);
      } catch (const Error& error) {  // no such function or number of ranks was fitted
        result.why_not = error.what();
      }
    }
    if (result.chunk_ns[i] > 0) ++result.split;
  }
  return result;
}

}  // namespace preserve
