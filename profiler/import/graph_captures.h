// SPDX-License-Identifier: Apache-2.0
// The two halves of a graph: while it is captured the framework says what each call works on
// (shapes, module), and nothing runs; when it is replayed kernels run, and nobody describes them.
// Engines write both as files of their own. Here the kernels of a replay find the calls of the
// capture that they come from:
//   names    where the recorder of the capture names what a call launches (HIP): the same sequence,
//            or the same number of each name, in order
//   places   else (CUDA): as many kernels and copies, copies in the same places, and products where
//            the framework multiplied
// Of several captures that fit, for batches of other sizes, the one counts that the engine takes:
// the smallest that holds the tokens of the replay. Where that is not known, none does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "profiler/gpu/kernel_rules.h"
#include "profiler/gpu/records.h"

namespace preserve::import {

// A call that launches, copies or fills while a graph is captured.
struct CapturedCall {
  uint32_t kernel = 0;         // row of table string; 0: not named
  uint32_t op_name = 0;        // row of table string: the framework's operator with the operands
  uint32_t operands = 0;       // in CapturedGraphs::operands
  uint32_t op = 0;             // calls of one operator have one number
  uint32_t scope = 0;          // in CapturedGraphs::scopes
  uint32_t communication = 0;  // in CapturedGraphs::communications
  bool copies = false;         // or fills
  bool multiplies = false;     // a product, by its operands
};

struct CapturedGraph {
  std::vector<CapturedCall> calls;
  int64_t tokens = 0;  // rows of its products; 0: has none with shapes
};

// Of one process of one file.
struct CapturedGraphs {
  std::string file;
  std::optional<int64_t> rank;
  std::vector<CapturedGraph> graphs;
  gpu::OperandTable operands;
  std::vector<std::string> scopes{{}};
  std::vector<gpu::CollectiveFacts> communications{{}};
};

// What the replays of one graph run, by the order in which it was captured.
struct ReplayedGraph {
  struct Node {
    uint32_t name = 0;  // row of table string
    gpu::KernelClass kernel_class = gpu::KernelClass::other;
    bool copies = false;
  };
  std::vector<Node> nodes;
  std::vector<uint32_t> node_of;  // by the number of an activity in its replay
};

class GraphCaptures {
 public:
  // `limit`: of calls that are compared for one process.
  explicit GraphCaptures(int64_t limit) : limit_(limit) {}
  int64_t limit() const { return limit_; }
  void add(CapturedGraphs graphs) { files_.push_back(std::move(graphs)); }
  bool empty() const { return files_.empty(); }

  struct Fitting {
    const CapturedGraphs* from;
    const CapturedGraph* graph;
  };
  // The captures that fit, whatever the tokens; those of another rank are not looked at. `left`:
  // calls that may still be compared; below 0 there was not enough, and the answer means nothing.
  std::vector<Fitting> fitting(const ReplayedGraph& replay, std::optional<int64_t> rank,
                               int64_t& left) const;

  // Nothing fits; or several do, and which one is not known; or there was too much to compare.
  enum class Why { none, joined, ambiguous, too_many };
  struct Join {
    Why why = Why::none;
    const CapturedGraphs* from = nullptr;
    std::vector<const CapturedCall*> calls{};  // by node; nullptr: none, or nothing that is its own
    bool in_module = false;                    // one graph fits: its module paths are this one's
  };
  // The one of `fitting`. `tokens`: of the replay, 0 unknown. `left` as above.
  static Join join(const ReplayedGraph& replay, std::vector<Fitting> fitting, int64_t tokens,
                   int64_t& left);

 private:
  int64_t limit_;
  std::vector<CapturedGraphs> files_;
};

}  // namespace preserve::import
