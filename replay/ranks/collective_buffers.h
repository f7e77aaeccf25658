// SPDX-License-Identifier: Apache-2.0
// A recorded collective as a function and two buffers of floats, whatever carries it out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace preserve {

enum class CollectiveFunction {
  allreduce,
  allgather,
  reduce_scatter,
  alltoall,
  broadcast,
  reduce,
  gather,
  scatter,
  barrier
};

struct CollectiveBuffers {
  CollectiveFunction function = CollectiveFunction::barrier;
  int count = 0;  // elements that one rank contributes or keeps
  std::vector<float> send, receive;
};

// `bytes` of one rank. input_error when the function is none that can be repeated, or the bytes are
// too many for it.
CollectiveBuffers collective_buffers(const std::string& function, int64_t bytes, int ranks);

}  // namespace preserve
