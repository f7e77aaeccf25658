// SPDX-License-Identifier: Apache-2.0
// A simulated GPU with chosen properties, in virtual time and without chance (unless asked for):
// memory on the host, an L2 of blocks that leave it in the order of their last use, nodes that run
// at the same time and share the memory's bandwidth block by block. Kernels' SMs are not simulated.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "replay/gpu/device.h"
#include "tests/support/fake_l2.h"

namespace preserve::test {

// "Simulated GPU": compute 9.0, 132 SMs, 4 MiB of L2 of which a quarter can be set aside, 1 GiB.
GpuFacts fake_facts();

struct FakeGpuProperties {
  GpuFacts facts = fake_facts();
  GpuState state{};  // what state() says until set_state()
  int64_t block_bytes = 4096;
  int64_t effective_l2_bytes = 3 << 20;
  // Lines marked evict_last that stay without any set-aside.
  int64_t protected_without_set_aside_bytes = 0;
  double cold_bytes_per_s = 100e9;  // of memory, all nodes together
  double hot_bytes_per_s = 400e9;   // of one node that reads what L2 holds
  // Hits of SMs of one half on lines that only the other half has; 0: L2 is not split.
  double far_bytes_per_s = 0;
  // Of a prefetch that has the memory for itself; empty: 80 % of the memory's.
  std::function<double(GpuFetch fetch, int ctas, int64_t chunk_bytes)> prefetch_bytes_per_s{};
  int64_t launch_gap_ns = 1000;  // from the end of what a node waits for to its beginning
  int64_t leaf_start_ns = 1500;  // the same of a prefetch that is a leaf of another node
  int64_t fork_ns = 0;           // added to the start of a node that has a prefetch as a leaf
  int64_t launch_order_start_ns = 500;  // after the beginning of the node it may start with
  bool takes_start_edges = true;        // else a graph with one is refused
  int64_t side_stream_start_ns = 3000;  // of a prefetch launched into the side stream
  int64_t host_launch_ns = 2000, host_launch_per_node_ns = 10;
  double host_link_bytes_per_s = 20e9;
  double link_slowdown = 1;  // factor on the time of transfers over the host link during a prefetch
  double chase_hit_ns = 150, chase_far_ns = 250, chase_miss_ns = 350;
  double chase_slowdown = 1;       // the same of chases
  double few_blocks_slowdown = 1;  // the same of reads in a chosen number of blocks
  double flops_per_s = 50e12;
  std::vector<GpuElement> multiplies{};  // types of gemm nodes that it can run
  bool has_nccl = false;
  int64_t nccl_latency_ns = 8000;
  double nccl_bytes_per_s = 50e9;
  int64_t probe_ns = 5000;
  double noise = 0;  // standard deviation of every rate, as a part of it
  uint64_t seed = 1;
};

class FakeGpu final : public GpuDevice {
 public:
  explicit FakeGpu(FakeGpuProperties properties = {});
  ~FakeGpu() override;

  const GpuFacts& facts() const override { return properties_.facts; }
  GpuState state() override { return state_; }
  GpuAddress allocate(int64_t bytes) override;
  void make_chain(GpuAddress address, int64_t bytes, uint64_t seed) override;
  int add(const GpuGraph& graph) override;
  void drop(int graph) override;
  GpuRun run(int graph, int times) override;
  void set_persisting_l2(std::optional<int64_t> bytes) override;
  int64_t probe_clock_ns() override;
  const std::vector<int>& sm_halves() override { return halves_; }
  std::string make_collective_id() override;
  void join(const std::string& id, int rank, int ranks) override;
  bool can_multiply(GpuElement element) override;

  // What a test turns while the device is in use.
  void set_state(GpuState state) { state_ = std::move(state); }
  void slow_down(double factor) { slowdown_ = factor; }  // of everything, the probe included
  void corrupt(GpuAddress address) { *host(address) ^= std::byte{1}; }
  std::function<void(int graph)> before_run;

  // What a test looks at.
  int64_t monotonic_ns() const { return static_cast<int64_t>(now_ns_); }
  const GpuGraph& graph(int number) const { return graphs_.at(number); }
  int64_t allocated_bytes() const { return allocated_bytes_; }
  int64_t cached_bytes(GpuRange range) const { return l2_.cached_bytes(range); }
  int64_t set_aside_bytes() const { return l2_.set_aside_bytes(); }
  int64_t prefetched_bytes() const { return prefetched_bytes_; }  // in all runs

 private:
  friend class FakeGpuRun;
  std::byte* host(GpuAddress address);

  FakeGpuProperties properties_;
  GpuState state_;
  std::vector<GpuRange> allocations_;
  std::map<GpuAddress, std::unique_ptr<std::byte[]>> memory_;
  FakeL2 l2_;
  std::map<int, GpuGraph> graphs_;
  std::vector<int> halves_;
  std::mt19937_64 random_;
  GpuAddress next_address_ = GpuAddress{1} << 32;
  int64_t allocated_bytes_ = 0, prefetched_bytes_ = 0;
  double now_ns_ = 0, slowdown_ = 1;
  int next_graph_ = 0;
  bool joined_ = false;
};

}  // namespace preserve::test
