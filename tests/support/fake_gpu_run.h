// SPDX-License-Identifier: Apache-2.0
// One execution of a graph on the simulated GPU: events in virtual time.
#pragma once

#include <queue>
#include <tuple>
#include <vector>

#include "tests/support/fake_gpu.h"

namespace preserve::test {

class FakeGpuRun {
 public:
  FakeGpuRun(FakeGpu& gpu, const GpuGraph& graph, bool sums);
  void execute();  // moves the device's clock to the end of the last node
  double op_ns(int op) const;
  double op_start_ns(int op) const;
  uint64_t checksum() const { return checksum_; }

 private:
  enum class Phase { waiting, started, working, held, ended };
  struct State {
    Phase phase = Phase::waiting;
    size_t missing = 0;  // nodes that it still waits for
    double begin_ns = 0, start_ns = 0, end_ns = 0;
    double cold_demand = 0;  // bytes/s of memory that its block in flight asks for
    size_t range = 0;
    int64_t offset_bytes = 0;  // within the range
    int64_t left = 0;          // hops, link bytes
    GpuAddress chain = 0;
    double rate_factor = 1;
  };

  const GpuNode& node(size_t index) const { return graph_.nodes[index]; }
  void link_nodes();
  bool forked(size_t index) const;
  void schedule(size_t index, double at_ns) { events_.emplace(at_ns, index); }
  void release(size_t index);     // one of those it waits for has ended, or begun
  void begin(size_t index);       // the kernel's blocks begin
  void start_work(size_t index);  // it has waited before
  void advance(size_t index);     // the piece in flight is done
  void finish(size_t index);
  // Next piece: how long it takes; negative: there is none left.
  double next_piece_ns(size_t index);
  double move_block_ns(size_t index);
  double link_piece_ns(size_t index);
  double hop_ns(size_t index);
  double shared_rate(size_t index, double demand) const;
  double hit_rate(const GpuNode& node, int halves) const;
  bool prefetching() const;
  // When a node ran, as far as can be told: a library's from the end of what it waited for to the
  // beginning of what waits for it.
  double seen_start_ns(size_t index) const;
  double seen_end_ns(size_t index) const;
  void add_words(GpuAddress address, int64_t bytes);

  FakeGpu& gpu_;
  const FakeGpuProperties& properties_;
  const GpuGraph& graph_;
  bool sums_ = true;  // adds up what is read
  std::vector<State> states_;
  std::vector<std::vector<size_t>> on_end_, on_begin_;  // nodes to release
  std::priority_queue<std::tuple<double, size_t>, std::vector<std::tuple<double, size_t>>,
                      std::greater<>>
      events_;
  double now_ns_ = 0, first_ns_ = -1;
  uint64_t checksum_ = 0;
};

}  // namespace preserve::test
