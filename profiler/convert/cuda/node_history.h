// SPDX-License-Identifier: Apache-2.0
// What every number of a graph node meant over time.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

class NodeHistory {
 public:
  explicit NodeHistory(const Run& run);
  // The call of the latest meaning of `node` at `time_ns`: the one that was captured into it.
  // kNone when there is none yet.
  uint32_t find(uint64_t node, int64_t time_ns) const;

 private:
  struct Meaning {
    int64_t time_ns;
    uint32_t launch;
  };
  std::map<uint64_t, std::vector<Meaning>> meanings_;
};

}  // namespace preserve::cuda
