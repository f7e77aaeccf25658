// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_gpu.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/error.h"
#include "replay/gpu/graph_check.h"
#include "tests/support/fake_gpu_run.h"

namespace preserve::test {
namespace {

constexpr int64_t kLineBytes = 128;
constexpr int64_t kAllocationGap = 1 << 20;  // running over an end meets no other allocation

}  // namespace

GpuFacts fake_facts() {
  GpuFacts facts;
  facts.name = "Simulated GPU";
  facts.uuid = "GPU-00000000-0000-0000-0000-000000000001";
  facts.compute_major = 9;
  facts.driver = "580.0";
  facts.driver_cuda = facts.runtime_cuda = 13000;
  facts.sms = 132;
  facts.l2_bytes = 4 << 20;
  facts.persisting_l2_max_bytes = 1 << 20;
  facts.memory_bytes = facts.free_bytes = int64_t{1} << 30;
  facts.host_link_bytes_per_s = 20e9;
  return facts;
}

FakeGpu::FakeGpu(FakeGpuProperties properties)
    : properties_(std::move(properties)),
      state_(properties_.state),
      l2_(properties_.block_bytes, properties_.effective_l2_bytes,
          std::max(properties_.facts.persisting_l2_default_bytes,
                   properties_.protected_without_set_aside_bytes)),
      random_(properties_.seed) {
  if (properties_.far_bytes_per_s <= 0) return;
  for (int sm = 0; sm < properties_.facts.sms; ++sm) halves_.push_back(1 + sm % 2);
}

FakeGpu::~FakeGpu() = default;

GpuAddress FakeGpu::allocate(int64_t bytes) {
  if (bytes <= 0) throw internal_error("allocation of {} bytes", bytes);
  if (bytes > properties_.facts.free_bytes) {
    throw input_error("{} bytes of device memory were asked for, {} are free", bytes,
                      properties_.facts.free_bytes);
  }
  auto memory = std::make_unique<std::byte[]>(static_cast<size_t>(bytes));
  for (int64_t at = 0; at < bytes; at += 4) {
    const uint32_t word = gpu_pattern_word(static_cast<uint64_t>(at));
    std::memcpy(memory.get() + at, &word, static_cast<size_t>(std::min<int64_t>(4, bytes - at)));
  }
  const GpuAddress address = next_address_;
  next_address_ += static_cast<GpuAddress>((bytes + kAllocationGap + kGpuPatternBytes - 1) /
                                           kGpuPatternBytes * kGpuPatternBytes);
  allocations_.push_back({address, bytes});
  memory_[address] = std::move(memory);
  properties_.facts.free_bytes -= bytes;
  allocated_bytes_ += bytes;
  return address;
}

std::byte* FakeGpu::host(GpuAddress address) {
  const auto after = memory_.upper_bound(address);
  if (after == memory_.begin()) throw internal_error("address {:#x} is not allocated", address);
  const auto& [begin, bytes] = *std::prev(after);
  return bytes.get() + (address - begin);
}

void FakeGpu::make_chain(GpuAddress address, int64_t bytes, uint64_t seed) {
  const auto lines = static_cast<size_t>(bytes / kLineBytes);
  if (lines == 0) throw internal_error("a chain needs a cache line");
  std::vector<GpuAddress> order(lines);
  std::iota(order.begin(), order.end(), GpuAddress{0});
  std::mt19937_64 random(seed);
  std::shuffle(order.begin() + 1, order.end(), random);  // line 0 stays the chain's beginning
  for (size_t i = 0; i < lines; ++i) {
    const GpuAddress next = address + order[(i + 1) % lines] * kLineBytes;
    std::memcpy(host(address + order[i] * kLineBytes), &next, sizeof next);
  }
}

int FakeGpu::add(const GpuGraph& graph) {
  check_graph(graph, properties_.facts, allocations_);
  for (const GpuNode& node : graph.nodes) {
    if (node.kind == GpuNodeKind::prefetch && node.fetch == GpuFetch::bulk_l2 &&
        properties_.facts.compute_major < 9) {
      throw input_error("bulk prefetches need compute capability 9.0");
    }
    if (node.with_start_of && graph.as_graph && !properties_.takes_start_edges) {
      throw input_error("no edge from the start of a node");
    }
    if (node.kind == GpuNodeKind::gemm && !can_multiply(node.element)) {
      throw internal_error("a gemm of a type that this device cannot multiply");
    }
    if (node.kind == GpuNodeKind::collective && !joined_) {
      throw internal_error("a collective before join()");
    }
  }
  graphs_[++next_graph_] = graph;
  return next_graph_;
}

void FakeGpu::drop(int graph) {
  if (graphs_.erase(graph) == 0) throw internal_error("no graph {}", graph);
}

GpuRun FakeGpu::run(int graph, int times) {
  if (times < 1) throw internal_error("{} executions of a graph", times);
  if (before_run) before_run(graph);
  const GpuGraph& what = graphs_.at(graph);
  const auto slots = static_cast<size_t>(what.ops);
  GpuRun result;
  result.op_ns.resize(slots);
  result.op_start_ns.resize(slots);
  const double start_ns = now_ns_;
  for (int i = 0; i < times; ++i) {
    FakeGpuRun step(*this, what, i == 0);  // memory is the same in all executions
    step.execute();
    for (size_t op = 0; op < slots; ++op) {
      result.op_ns[op] += step.op_ns(static_cast<int>(op)) / times;
      result.op_start_ns[op] += step.op_start_ns(static_cast<int>(op)) / times;
    }
    if (i == 0) result.checksum = step.checksum();
  }
  result.step_ns = (now_ns_ - start_ns) / times;
  result.launch_ns = static_cast<double>(properties_.host_launch_ns) +
                     static_cast<double>(properties_.host_launch_per_node_ns) *
                         static_cast<double>(what.nodes.size());
  return result;
}

void FakeGpu::set_persisting_l2(std::optional<int64_t> bytes) {
  const int64_t wanted = bytes.value_or(properties_.facts.persisting_l2_default_bytes);
  if (wanted < 0 || wanted > properties_.facts.persisting_l2_max_bytes) {
    throw internal_error("a persisting set-aside of {} bytes", wanted);
  }
  l2_.demote_all();
  l2_.set_set_aside(std::max(wanted, properties_.protected_without_set_aside_bytes));
}

int64_t FakeGpu::probe_clock_ns() {
  return static_cast<int64_t>(static_cast<double>(properties_.probe_ns) * slowdown_);
}

std::string FakeGpu::make_collective_id() {
  if (!properties_.has_nccl) throw input_error("NCCL is missing");
  return "fake-collective-id";
}

void FakeGpu::join(const std::string& id, int rank, int ranks) {
  if (!properties_.has_nccl) throw input_error("NCCL is missing");
  if (id != "fake-collective-id" || rank < 0 || rank >= ranks) {
    throw internal_error("rank {} of {} joins {}", rank, ranks, id);
  }
  joined_ = true;
}

bool FakeGpu::can_multiply(GpuElement element) {
  return std::find(properties_.multiplies.begin(), properties_.multiplies.end(), element) !=
         properties_.multiplies.end();
}

}  // namespace preserve::test
