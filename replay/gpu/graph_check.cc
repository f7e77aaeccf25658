// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/graph_check.h"

#include <algorithm>

#include "common/error.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr int64_t kAlignment = 16;

class NodeCheck {
 public:
  NodeCheck(const GpuGraph& graph, const GpuFacts& facts, std::span<const GpuRange> allocations)
      : graph_(graph), facts_(facts), allocations_(allocations) {}

  void check(size_t index) {
    index_ = index;
    const GpuNode& node = graph_.nodes[index];
    check_order(node);
    require(node.op >= -1 && node.op < graph_.ops, "has no such slot");
    require(node.ctas >= 0 && node.ctas <= facts_.sms * kCtasPerSm, "has too many CTAs");
    require(node.sm_half >= 0 && node.sm_half <= 2, "names an unknown half of L2");
    require(node.stream == 0 || node.stream == 1, "names an unknown stream");
    for (const int64_t number :
         {node.wait_before_ns, node.wait_after_ns, node.hold_ns, node.link_bytes, node.hops,
          node.message_bytes, node.m, node.n, node.k, node.chunk_bytes, node.wrap_bytes}) {
      require(number >= 0, "has a negative number");
    }
    check_kind(node);
  }

 private:
  static constexpr int kCtasPerSm = 16;

  void require(bool holds, const char* rule) const {
    if (!holds) throw internal_error("node {} of a GPU graph {}", index_, rule);
  }

  void check_order(const GpuNode& node) const {
    for (const int before : node.after) {
      require(before >= 0 && static_cast<size_t>(before) < index_, "waits for a later node");
    }
    if (node.with_start_of) require(node.after.size() == 1, "starts with other than one node");
  }

  void check_kind(const GpuNode& node) const {
    for (const GpuRange& range : node.ranges) check_range(range, readable_bytes(node, range));
    for (const GpuRange& range : node.writes) check_range(range, range.bytes);
    if (node.kind != GpuNodeKind::read) require(node.writes.empty(), "writes");
    const bool holds = node.kind != GpuNodeKind::gemm && node.kind != GpuNodeKind::collective;
    require(holds || (node.wait_before_ns == 0 && node.wait_after_ns == 0), "cannot wait");
    switch (node.kind) {
      case GpuNodeKind::read:
        require(node.wrap_bytes % kGpuPatternBytes == 0, "wraps within the pattern");
        return;
      case GpuNodeKind::prefetch:
        require(node.op == -1, "is a prefetch with a slot");
        require(node.ctas > 0 && node.ctas <= facts_.sms,
                "is a prefetch with no CTA, or more than there are SMs");
        require(node.chunk_bytes > 0 && node.chunk_bytes % kAlignment == 0,
                "prefetches in chunks that are no multiple of 16 bytes");
        return;
      case GpuNodeKind::stand_in:
        require(node.ctas > 0, "is a stand-in without CTAs");
        return;
      case GpuNodeKind::chase:
        require(node.ranges.size() == 1 && node.hops > 0, "chases nothing");
        return;
      case GpuNodeKind::gemm:
        require(node.m > 0 && node.n > 0 && node.k > 0, "multiplies nothing");
        require(node.ranges.size() == 1 && node.ranges[0].bytes == weight_bytes(node),
                "has weights of another size than its shape");
        return;
      case GpuNodeKind::collective:
        require(!node.function.empty(), "is a collective without function");
        return;
    }
  }

  static int64_t readable_bytes(const GpuNode& node, const GpuRange& range) {
    return node.wrap_bytes > 0 ? std::min(node.wrap_bytes, range.bytes) : range.bytes;
  }

  void check_range(const GpuRange& range, int64_t touched_bytes) const {
    require(range.address % kAlignment == 0 && range.bytes % kAlignment == 0,
            "has a range that is not aligned to 16 bytes");
    require(range.bytes > 0, "has an empty range");
    const bool inside =
        std::ranges::any_of(allocations_, [&](const GpuRange& allocation) {
          const auto bytes = static_cast<GpuAddress>(allocation.bytes);
          const auto touched = static_cast<GpuAddress>(touched_bytes);
          return range.address >= allocation.address && touched <= bytes &&
                 range.address - allocation.address <= bytes - touched;
        });
    require(inside, "leaves the memory that was allocated");
  }

  const GpuGraph& graph_;
  const GpuFacts& facts_;
  std::span<const GpuRange> allocations_;
  size_t index_ = 0;
};

}  // namespace

void check_graph(const GpuGraph& graph, const GpuFacts& facts,
                 std::span<const GpuRange> allocations) {
  if (graph.nodes.empty()) throw internal_error("a GPU graph has no nodes");
  NodeCheck check(graph, facts, allocations);
  for (size_t i = 0; i < graph.nodes.size(); ++i) check.check(i);
}

int64_t element_bytes(GpuElement element) {
  return element == GpuElement::fp16 || element == GpuElement::bf16 ? 2 : 1;
}

int64_t weight_bytes(const GpuNode& gemm) {
  return checked_mul(checked_mul(gemm.n, gemm.k, "weights"), element_bytes(gemm.element),
                     "weights");
}

}  // namespace preserve
