// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/graphs.h"

namespace preserve {
namespace {

// A prefetch kernel may end when all has been asked for. All that calibration ever asks for at
// once, one and a half L2, is there by then: 108 MB of an RTX 4090 take 110 us.
constexpr int64_t kArrivedNs = 200'000;
constexpr int64_t kBlockBytes = 4096;
// Reads after the last place for a leaf, so that the chain ends last.
constexpr int kLeafTail = 8;

class Builder {
 public:
  explicit Builder(const CalibrationMemory& memory) : memory_(memory) {}

  int add(GpuNode node) {
    graph_.ops = std::max(graph_.ops, node.op + 1);
    graph_.nodes.push_back(std::move(node));
    return static_cast<int>(graph_.nodes.size()) - 1;
  }
  int read(GpuRange range, std::vector<int> after, int op = -1, int sm_half = 0) {
    return add({.op = op, .after = std::move(after), .sm_half = sm_half, .ranges = {range}});
  }
  int flush(int op = -1) { return read(memory_.flush, {}, op); }
  int hold(int64_t hold_ns, std::vector<int> after, int op = -1) {
    return add({.kind = GpuNodeKind::stand_in,
                .op = op,
                .after = std::move(after),
                .ctas = memory_.stand_in_ctas,
                .hold_ns = hold_ns});
  }
  GpuNode prefetch_node(const GpuIssue& issue, int64_t bytes, int after) const {
    return {.kind = GpuNodeKind::prefetch,
            .after = {after},
            .ctas = issue.ctas,
            .ranges = {head(bytes)},
            .fetch = issue.fetch,
            .eviction = issue.eviction,
            .chunk_bytes = issue.chunk_bytes};
  }
  int prefetch(const GpuIssue& issue, int64_t bytes, int after) {
    return add(prefetch_node(issue, bytes, after));
  }
  int chase(int64_t hops, int after, int op = -1) {
    return add({.kind = GpuNodeKind::chase,
                .op = op,
                .after = {after},
                .ranges = {memory_.chain},
                .hops = hops});
  }
  GpuRange head(int64_t bytes) const { return {memory_.data.address, bytes}; }
  GpuGraph& graph() { return graph_; }

 private:
  const CalibrationMemory& memory_;
  GpuGraph graph_;
};

// A chain of kernels that read one cached block each; the last one's node.
int add_chain(Builder& builder, int nodes) {
  int last = builder.read(builder.head(kBlockBytes), {});
  for (int i = 1; i < nodes; ++i) last = builder.read(builder.head(kBlockBytes), {last});
  return last;
}

}  // namespace

GpuGraph memory_read_graph(const CalibrationMemory& memory) {
  Builder builder(memory);
  builder.flush(0);
  return builder.graph();
}

GpuGraph footprint_graph(const CalibrationMemory& memory, int64_t bytes) {
  Builder builder(memory);
  const int cold = builder.read(builder.head(bytes), {builder.flush()}, 0);
  builder.read(builder.head(bytes), {cold}, 1);
  return builder.graph();
}

GpuGraph half_graph(const CalibrationMemory& memory, const HalfTimes& half) {
  Builder builder(memory);
  const GpuRange range = builder.head(half.bytes);
  const int filled = builder.read(range, {builder.flush()}, -1, half.filled_by);
  builder.read(range, {filled}, 0, half.read_by);
  return builder.graph();
}

GpuGraph chain_graph(const CalibrationMemory& memory, int nodes) {
  Builder builder(memory);
  add_chain(builder, nodes);
  return builder.graph();
}

GpuGraph leaves_graph(const CalibrationMemory& memory, GpuFetch fetch, int leaves) {
  Builder builder(memory);
  add_chain(builder, kLeafPlaces + kLeafTail);
  const GpuIssue issue{fetch, 1, kBlockBytes, GpuEviction::normal};
  for (int i = 0; i < leaves; ++i) builder.prefetch(issue, kBlockBytes, i % kLeafPlaces);
  return builder.graph();
}

GpuGraph window_graph(const CalibrationMemory& memory, const WindowTimes& window, StartWay way) {
  Builder builder(memory);
  const int flushed = builder.flush();
  const int stand_in = builder.hold(window.hold_ns, {flushed}, 0);
  GpuNode prefetch = builder.prefetch_node(window.issue, window.bytes, flushed);
  if (way == StartWay::launch_order) {
    prefetch.after = {stand_in};
    prefetch.with_start_of = true;
  }
  if (way == StartWay::side_stream) {
    prefetch.stream = 1;
    builder.graph().as_graph = false;
  }
  builder.add(std::move(prefetch));
  builder.read(builder.head(window.bytes), {stand_in}, 1);
  return builder.graph();
}

GpuGraph arrived_graph(const CalibrationMemory& memory, const ArrivedTimes& arrived) {
  Builder builder(memory);
  const int fetched = builder.prefetch(arrived.issue, arrived.bytes, builder.flush());
  builder.read(builder.head(arrived.bytes), {builder.hold(kArrivedNs, {fetched})}, 0);
  return builder.graph();
}

GpuGraph retired_graph(const CalibrationMemory& memory, const RetiredTimes& retired) {
  Builder builder(memory);
  const int fetched = builder.prefetch(retired.issue, retired.bytes, builder.flush(0));
  builder.read(builder.head(retired.bytes), {fetched}, 1);
  return builder.graph();
}

GpuGraph eviction_graph(const CalibrationMemory& memory, const GpuIssue& issue,
                        const EvictionTimes& times) {
  Builder builder(memory);
  GpuIssue marked = issue;
  marked.eviction = times.eviction;
  const int fetched = builder.prefetch(marked, times.bytes, builder.flush());
  const int arrived = builder.hold(kArrivedNs, {fetched});
  const GpuRange others{memory.traffic.address, times.traffic_bytes};
  builder.read(builder.head(times.bytes), {builder.read(others, {arrived})}, 0);
  return builder.graph();
}

GpuGraph link_graph(const CalibrationMemory& memory, const LinkTimes& times,
                    const GpuIssue* issue) {
  Builder builder(memory);
  const int flushed = builder.flush();
  const int transfer = builder.hold(0, {flushed}, 0);
  builder.graph().nodes[transfer].link_bytes = times.link_bytes;
  if (issue != nullptr) builder.prefetch(*issue, times.fetched_bytes, flushed);
  return builder.graph();
}

GpuGraph operator_graph(const CalibrationMemory& memory, const OperatorTimes& times,
                        bool fetching) {
  Builder builder(memory);
  const int flushed = builder.flush();
  const int op = builder.read({memory.traffic.address, times.bytes}, {flushed}, 0);
  builder.graph().nodes[op].ctas = times.ctas;
  if (fetching) builder.prefetch(times.issue, times.fetched_bytes, flushed);
  return builder.graph();
}

GpuGraph chase_graph(const CalibrationMemory& memory, int64_t hops, bool cached, int64_t bytes,
                     const GpuIssue* issue) {
  Builder builder(memory);
  const int before = cached ? builder.chase(hops, builder.flush()) : builder.flush();
  builder.chase(hops, before, 0);
  if (issue != nullptr) builder.prefetch(*issue, bytes, before);
  return builder.graph();
}

}  // namespace preserve
