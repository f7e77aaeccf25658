// SPDX-License-Identifier: Apache-2.0
// Kernel parameters -> which memory a kernel was given. Pure arithmetic over one recorded run, but
// for the rows of `tensor` that it adds for memory that nobody named.
//
// Each aligned word of a launch's parameters that points into memory that is live at the launch is
// an operand: a memory region that the program named, else a block of an allocation. Where a block
// ends is not known; the next pointer that any launch was given into the same allocation bounds it,
// and so does what the device can move in the time of the kernel. TMA descriptors tell address and
// extent.
//
//   TMA descriptor 0.95   named region 0.9   start of an allocation 0.6   inside an allocation 0.4
//   a word inside a struct: 0.1 less
//
// A block that only ever one operand of one matrix kernel is given is taken for a weight.
// Parameters do not say who writes: operands are reads, except of a kernel that stores keys and
// values.
#pragma once

#include <compare>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/cuda/run.h"
#include "profiler/gpu/kernel_rules.h"

namespace preserve::cuda {

// A memory region that has a row in `tensor` already.
struct NamedMemory {
  uint64_t base = 0, bytes = 0;
  int64_t from_ns = 0, to_ns = 0;
  TensorId row{};
  TensorRole role = TensorRole::unknown;
};

struct Operand {
  TensorId tensor{};
  int64_t offset_bytes = 0, bytes = 0;
  AccessMode mode = AccessMode::read;
  double confidence = 0;
  friend auto operator<=>(const Operand& a, const Operand& b) {
    return std::tuple(a.tensor.value, a.offset_bytes, a.bytes, a.mode, a.confidence) <=>
           std::tuple(b.tensor.value, b.offset_bytes, b.bytes, b.mode, b.confidence);
  }
};

struct OperandSummary {
  int64_t launches = 0;  // kernel launches with parameters
  int64_t matched = 0;   // of these: at least one operand was found
};

class Operands {
 public:
  // `bandwidth_bytes_per_s`: of the device, 0 unknown. Needs the links of join.h.
  Operands(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
           const std::vector<NamedMemory>& named, int64_t bandwidth_bytes_per_s, ProcessId process,
           TraceDb& db);

  // Of the launch that says what an activity is; empty when nothing is known.
  const std::vector<Operand>& of(uint32_t launch) const;
  const OperandSummary& summary() const { return summary_; }

 private:
  struct Block;
  struct Use;
  GrowingArray<Use> find_uses(const Run& run, const std::vector<NamedMemory>& named);
  using Blocks = std::map<std::pair<uint32_t, uint64_t>, Block>;  // by allocation and address
  Blocks add_blocks(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                    const GrowingArray<Use>& uses, ProcessId process, TraceDb& db);
  void add_lists(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                 const std::vector<NamedMemory>& named, const GrowingArray<Use>& uses,
                 const Blocks& blocks);
  uint32_t list(const std::vector<Operand>& operands);

  int64_t bandwidth_;
  GrowingArray<uint32_t> launch_names_;
  GrowingArray<int64_t> longest_ns_;         // of the activities of each launch
  std::vector<std::vector<Operand>> lists_;  // [0] is empty; programs repeat the same few
  std::map<std::vector<Operand>, uint32_t> known_lists_;
  GrowingArray<uint32_t> list_of_launch_;
  OperandSummary summary_;
};

}  // namespace preserve::cuda
