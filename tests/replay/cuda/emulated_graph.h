// SPDX-License-Identifier: Apache-2.0
// The handles that CUDA's headers leave open, as runtime and driver of the emulation share them.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/stub.h"

using Work = std::function<void()>;

struct CUevent_st {
  int recorded = 0, completed = 0;  // versions
  uint64_t time_ns = 0;
};
// A kernel of the driver: what one launch of it does, given its parameters.
struct CUfunc_st {
  std::string name;
  std::vector<size_t> parameter_bytes;
  std::function<void(void**, unsigned blocks, unsigned threads)> call;
};
struct CUgraphNode_st {
  Work work;
  std::vector<CUgraphNode_st*> after;
  bool kernel = false;

  // What the driver shows of it, where the driver made it.
  CUgraph_st* graph = nullptr;
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_KERNEL;
  std::vector<std::pair<CUgraphNode_st*, CUgraphEdgeData>> edges;  // from where
  CUDA_KERNEL_NODE_PARAMS params{};
  std::vector<std::vector<char>> arguments;
  std::vector<void*> argument_pointers;
  int priority = 0;
  bool device_updatable = false;
  uint64_t id = 0;  // no other node has or had it; 0: made by the runtime
};
struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  uint64_t id = 0;  // no other graph has or had it
};
struct CUgraphExec_st {
  struct Node {
    Work work;
    std::vector<size_t> after;
    // What must stay as it is when it is updated.
    std::vector<std::pair<size_t, int>> edges{};  // node and port
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_KERNEL;
    int priority = 0;
    uint64_t of = 0;  // the node of the template
    bool enabled = true;
  };
  std::vector<Node> nodes;
  unsigned long long flags = 0;
  uint64_t of = 0;  // the template
};
struct CUstream_st {
  struct Entry {
    Work work;
    CUevent_st* wait_for = nullptr;
    int version = 0;
  };
  std::deque<Entry> queue;
  CUgraph_st* capturing = nullptr;
  std::vector<CUgraphNode_st*> last;  // of the capture
};

namespace preserve::emulated {

// One call of the driver at a time, as of a driver that is called from several threads.
std::recursive_mutex& driver_mutex();
struct Entry {
  Entry();
  const std::lock_guard<std::recursive_mutex> lock;
  bool fails;
};
template <typename Body>
CUresult called(Body body) {
  const Entry entry;
  return entry.fails ? CUDA_ERROR_UNKNOWN : body();
}
// Of one expression.
#define CALL(declaration, ...) STUB(declaration, called([&] { return __VA_ARGS__; }))

}  // namespace preserve::emulated
