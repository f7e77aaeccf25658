// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/step_graph.h"

#include <algorithm>
#include <map>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr GpuAddress kAlignment = 16;
// A link that is asked for all it can do takes longer than the collective was.
constexpr double kLinkShare = 0.8;
// A decode step has no larger shapes.
constexpr double kMostActivationBytes = double{1} * (int64_t{1} << 32);

// The smallest range that can be read and covers [begin, begin + bytes).
GpuRange covering(GpuAddress begin, int64_t bytes) {
  const GpuAddress first = begin / kAlignment * kAlignment;
  const GpuAddress end = (begin + static_cast<GpuAddress>(bytes) + kAlignment - 1) / kAlignment;
  return {first, static_cast<int64_t>(end * kAlignment - first)};
}

template <typename Ranges>
int64_t bytes_of(const Ranges& ranges) {
  int64_t bytes = 0;
  for (const auto& range : ranges) bytes += range.bytes;
  return bytes;
}

// The part-th of kOverlapChunks equal pieces of all bytes in order.
std::vector<GpuRange> piece_of(const std::vector<GpuRange>& ranges, int part) {
  const int64_t units = bytes_of(ranges) / static_cast<int64_t>(kAlignment);
  const int64_t begin = units * part / kOverlapChunks * static_cast<int64_t>(kAlignment);
  const int64_t end = units * (part + 1) / kOverlapChunks * static_cast<int64_t>(kAlignment);
  std::vector<GpuRange> piece;
  int64_t at = 0;
  for (const GpuRange& range : ranges) {
    const int64_t from = std::max(begin, at);
    const int64_t to = std::min(end, at + range.bytes);
    if (from < to) {
      piece.push_back({range.address + static_cast<GpuAddress>(from - at), to - from});
    }
    at += range.bytes;
  }
  return piece;
}

class GraphBuilder {
 public:
  GraphBuilder(const StepProgram& program, const ReplayArm& arm, const GraphMemory& memory,
               const GraphRules& rules, const StepWaits& waits)
      : program_(program), arm_(arm), memory_(memory), rules_(rules), waits_(waits) {
    for (const ArmWindow& window : arm.windows) windows_[window.ordinal] = &window;
  }

  GpuGraph build() {
    graph_.ops = static_cast<int>(program_.ops.size());
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      if (overlaps(i)) {
        add_overlapped(i);
        ++i;
      } else {
        add_operator(i);
      }
    }
    if (waits_.tail_ns > 0) add_wait(-1, waits_.tail_ns);
    return std::move(graph_);
  }

 private:
  int add(GpuNode node) {
    graph_.nodes.push_back(std::move(node));
    return static_cast<int>(graph_.nodes.size()) - 1;
  }

  int chain(GpuNode node) {
    node.after = tail_;
    tail_ = {add(std::move(node))};
    return tail_[0];
  }

  void add_wait(int op, int64_t dur_ns) {
    chain({.op = op,
           .ctas = 1,
           .wait_before_ns = op < 0 ? dur_ns : 0,
           .wait_after_ns = op < 0 ? 0 : dur_ns});
  }

  bool overlaps(size_t op) const {
    return arm_.kind == ArmKind::overlap && op + 1 < program_.ops.size() &&
           op + 1 < rules_.overlap_chunk_ns.size() && rules_.overlap_chunk_ns[op + 1] > 0;
  }

  std::vector<GpuRange> ranges_of(const std::vector<TensorSlice>& slices) const {
    std::vector<GpuRange> ranges;
    for (const TensorSlice& slice : slices) {
      const GpuAddress base = memory_.tensors[slice.tensor];
      ranges.push_back(covering(base + static_cast<GpuAddress>(slice.offset_bytes), slice.bytes));
    }
    return ranges;
  }

  // The same bytes from the hot block: equal places of the pattern give equal sums.
  GpuRange hot_range(const GpuRange& range) const {
    return {memory_.hot.address + range.address % kGpuPatternBytes, range.bytes};
  }

  bool multiplies(const ProgramOp& op) const {
    if (!product_of(op, rules_)) return false;
    return arm_.kind != ArmKind::hot || !streamed_when_hot(op, rules_, memory_);
  }

  GpuNode streaming_node(size_t index) const {
    const ProgramOp& op = program_.ops[index];
    GpuNode node{.op = static_cast<int>(index)};
    // Of a product that is streamed, what the product itself would not have counted stays out.
    const bool product = product_of(op, rules_).has_value();
    node.ranges = ranges_of(product ? std::vector{op.weights.front()} : op.weights);
    if (!product) {
      for (const GpuRange& range : ranges_of(op.reads)) node.ranges.push_back(range);
      node.writes = ranges_of(op.writes);
    }
    if (arm_.kind == ArmKind::hot) {
      for (GpuRange& range : node.ranges) range = hot_range(range);
      node.wrap_bytes = hot_wrap_bytes();
    }
    return node;
  }

  int64_t hot_wrap_bytes() const { return memory_.hot.bytes - kGpuPatternBytes; }

  GpuNode product_node(size_t index) const {
    const ProgramOp& op = program_.ops[index];
    GpuNode node{.kind = GpuNodeKind::gemm,
                 .op = static_cast<int>(index),
                 .ranges = ranges_of({op.weights.front()}),
                 .m = op.gemm->m,
                 .n = op.gemm->n,
                 .k = op.gemm->k,
                 .element = *product_of(op, rules_)};
    if (arm_.kind == ArmKind::hot) node.ranges[0].address = memory_.hot.address;
    return node;
  }

  GpuNode communication_node(size_t index) const {
    const ProgramOp& op = program_.ops[index];
    const int slot = static_cast<int>(index);
    const int64_t message_bytes = op.collective ? op.collective->bytes.value_or(0) : 0;
    if (op.collective && rules_.nccl) {
      return {.kind = GpuNodeKind::collective,
              .op = slot,
              .function = op.collective->function,
              .message_bytes = message_bytes};
    }
    const int64_t blocks = op.collective ? op.collective->blocks.value_or(kStandInCtas) : 1;
    return {.kind = GpuNodeKind::stand_in,
            .op = slot,
            .ctas = static_cast<int>(std::clamp<int64_t>(blocks, 1, rules_.sms)),
            .hold_ns = op.dur_ns + (op.collective ? rules_.network_latency_ns : 0),
            .link_bytes = movable_bytes(message_bytes, op.dur_ns)};
  }

  int64_t movable_bytes(int64_t message_bytes, int64_t dur_ns) const {
    const double room =
        kLinkShare * rules_.host_link_bytes_per_s * static_cast<double>(dur_ns) / kNsPerS;
    const auto bytes = static_cast<int64_t>(std::min(static_cast<double>(message_bytes), room));
    return bytes / static_cast<int64_t>(kAlignment) * static_cast<int64_t>(kAlignment);
  }

  GpuNode node_of(size_t index) const {
    const ProgramOp& op = program_.ops[index];
    if (communicates(op)) return communication_node(index);
    return multiplies(op) ? product_node(index) : streaming_node(index);
  }

  void add_operator(size_t index) {
    const OpWaits& waits = waits_.ops[index];
    const bool waits_inside = can_wait(program_.ops[index], rules_);
    if (!waits_inside && waits.before_ns > 0) add_wait(-1, waits.before_ns);
    GpuNode node = node_of(index);
    if (waits_inside) {
      node.wait_before_ns = waits.before_ns;
      node.wait_after_ns = waits.after_ns;
    } else if (node.kind == GpuNodeKind::read) {
      node.wait_after_ns = waits.after_ns;  // a product that arm hot streams
    }
    const bool holds_after = !waits_inside && node.kind != GpuNodeKind::read && waits.after_ns > 0;
    const auto window = windows_.find(static_cast<int32_t>(index));
    const bool fetches = window != windows_.end();
    // A product may be several kernels: nothing can begin with it.
    const bool after_start =
        fetches && arm_.method.issue == "after" && node.kind != GpuNodeKind::gemm;
    const std::vector<int> before = tail_;
    const int64_t wait_before_ns = node.wait_before_ns;
    const int main = chain(std::move(node));
    // Added after the node it overlaps, as in calibration: a driver may fork the later branch.
    if (fetches) {
      GpuNode fetch = prefetch_node(*window->second);
      fetch.after = after_start ? std::vector<int>{main} : before;
      fetch.with_start_of = after_start;
      fetch.wait_before_ns = after_start ? 0 : wait_before_ns;
      add(std::move(fetch));
    }
    if (holds_after) add_wait(static_cast<int>(index), waits.after_ns);
  }

  GpuNode prefetch_node(const ArmWindow& window) {
    const int64_t ctas = arm_.method.ctas > 0 ? arm_.method.ctas : kPrefetchCtas;
    GpuNode node{.kind = GpuNodeKind::prefetch,
                 .ctas = static_cast<int>(std::clamp<int64_t>(ctas, 1, rules_.sms)),
                 .fetch = gpu_fetch(arm_.method.name).value_or(GpuFetch::load),
                 .eviction = gpu_eviction(arm_.method.eviction).value_or(GpuEviction::normal),
                 .chunk_bytes = arm_.method.chunk_bytes,
                 .stream = 1};
    if (arm_.kind == ArmKind::useless) {
      for (const TensorSlice& slice : window.slices) add_useless(slice.bytes, node.ranges);
    } else {
      node.ranges = ranges_of(window.slices);
    }
    return node;
  }

  // Memory that is never read, all of it in turn: what comes round again has long left the cache.
  void add_useless(int64_t bytes, std::vector<GpuRange>& ranges) {
    int64_t left = covering(0, bytes).bytes;
    while (left > 0) {
      const int64_t piece = std::min(left, memory_.useless.bytes - useless_at_);
      ranges.push_back({memory_.useless.address + static_cast<GpuAddress>(useless_at_), piece});
      useless_at_ = (useless_at_ + piece) % memory_.useless.bytes;
      left -= piece;
    }
  }

  // Operator `index` and the collective after it, in pieces: a piece of the collective waits for
  // its piece of the operator and for the piece of the collective before it.
  void add_overlapped(size_t index) {
    const OpWaits& waits = waits_.ops[index];
    const bool waits_inside = can_wait(program_.ops[index], rules_);
    if (!waits_inside && waits.before_ns > 0) add_wait(-1, waits.before_ns);
    std::vector<int> branch;
    for (int part = 0; part < kOverlapChunks; ++part) {
      GpuNode piece = operator_piece(index, part);
      if (waits_inside) {
        piece.wait_before_ns = part == 0 ? waits.before_ns : 0;
        piece.wait_after_ns = waits.after_ns / kOverlapChunks;
      }
      int computed = chain(std::move(piece));
      if (part == kOverlapChunks - 1 && !waits_inside && waits.after_ns > 0) {
        add_wait(static_cast<int>(index), waits.after_ns);
        computed = tail_[0];
      }
      GpuNode sent = collective_piece(index + 1, part);
      sent.after = branch;
      sent.after.push_back(computed);
      branch = {add(std::move(sent))};
    }
    tail_ = branch;
  }

  GpuNode operator_piece(size_t index, int part) const {
    GpuNode node = node_of(index);
    if (node.kind != GpuNodeKind::gemm) {
      node.ranges = piece_of(node.ranges, part);
      node.writes = piece_of(node.writes, part);
      return node;
    }
    const int64_t units = node.n / kProductRows;
    const int64_t begin = units * part / kOverlapChunks * kProductRows;
    const bool last = part == kOverlapChunks - 1;
    const int64_t end = last ? node.n : units * (part + 1) / kOverlapChunks * kProductRows;
    const int64_t row_bytes = node.ranges[0].bytes / node.n;
    node.n = end - begin;
    node.ranges = {
        {node.ranges[0].address + static_cast<GpuAddress>(begin * row_bytes), node.n * row_bytes}};
    return node;
  }

  GpuNode collective_piece(size_t index, int part) const {
    GpuNode node = communication_node(index);
    node.stream = 1;
    const int64_t message_bytes = program_.ops[index].collective->bytes.value_or(0);
    const int64_t piece_bytes = piece_of({{0, covering(0, message_bytes).bytes}}, part).at(0).bytes;
    if (node.kind == GpuNodeKind::collective) {
      node.message_bytes = piece_bytes;
      return node;
    }
    node.hold_ns = rules_.overlap_chunk_ns[index] + rules_.network_latency_ns;
    node.link_bytes = movable_bytes(piece_bytes, rules_.overlap_chunk_ns[index]);
    if (part == 0) node.wait_before_ns = waits_.ops[index].before_ns;
    return node;
  }

  const StepProgram& program_;
  const ReplayArm& arm_;
  const GraphMemory& memory_;
  const GraphRules& rules_;
  const StepWaits& waits_;
  std::map<int32_t, const ArmWindow*> windows_;
  GpuGraph graph_;
  std::vector<int> tail_;  // what the next operator waits for
  int64_t useless_at_ = 0;
};

}  // namespace

std::optional<GpuFetch> gpu_fetch(const std::string& method) {
  return find_word<GpuFetch>(kGpuFetchWords, method);
}

std::optional<GpuEviction> gpu_eviction(const std::string& eviction) {
  return find_word<GpuEviction>(kGpuEvictionWords, eviction);
}

bool communicates(const ProgramOp& op) {
  return op.kind == OpKind::collective || op.kind == OpKind::p2p;
}

std::optional<GpuElement> product_of(const ProgramOp& op, const GraphRules& rules) {
  if (!op.gemm || communicates(op)) return std::nullopt;
  const std::optional<GpuElement> element = find_word<GpuElement>(kGpuElementWords, op.gemm->dtype);
  const auto& can = rules.multiplies;
  if (!element || std::ranges::find(can, *element) == can.end()) return std::nullopt;
  if (op.weights.front().offset_bytes % static_cast<int64_t>(kAlignment) != 0) return std::nullopt;
  const StepGemm& shape = *op.gemm;
  if (shape.n % kProductRows != 0 || shape.k % kProductRows != 0) return std::nullopt;
  // The product moves its activations and its result by itself. An operator that moves more is not
  // a plain product.
  const int64_t others =
      bytes_of(op.weights) - op.weights.front().bytes + bytes_of(op.reads) + bytes_of(op.writes);
  const double own = 4.0 * static_cast<double>(shape.m) *  // fp32 at most
                     (static_cast<double>(shape.n) + static_cast<double>(shape.k));
  if (shape.m < 1 || own > kMostActivationBytes) return std::nullopt;
  return static_cast<double>(others) <= own ? element : std::nullopt;
}

bool can_wait(const ProgramOp& op, const GraphRules& rules) {
  if (communicates(op)) return !(op.collective && rules.nccl);
  return !product_of(op, rules);
}

bool streamed_when_hot(const ProgramOp& op, const GraphRules& rules, const GraphMemory& memory) {
  return product_of(op, rules) && op.weights.front().bytes > memory.hot.bytes;
}

GpuGraph graph_of(const StepProgram& program, const ReplayArm& arm, const GraphMemory& memory,
                  const GraphRules& rules, const StepWaits& waits) {
  if (waits.ops.size() != program.ops.size()) {
    throw internal_error("{} waits for {} operators", waits.ops.size(), program.ops.size());
  }
  return GraphBuilder(program, arm, memory, rules, waits).build();
}

GpuGraph streamed_products(const StepProgram& program, const GraphMemory& memory,
                           const GraphRules& rules) {
  GpuGraph graph;
  for (const ProgramOp& op : program.ops) {
    if (!streamed_when_hot(op, rules, memory)) continue;
    const TensorSlice& slice = op.weights.front();
    graph.nodes.push_back({.ranges = {covering(memory.tensors[slice.tensor] +
                                                   static_cast<GpuAddress>(slice.offset_bytes),
                                               slice.bytes)}});
  }
  return graph;
}

}  // namespace preserve
