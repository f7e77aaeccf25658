// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/graph_captures.h"

#include <algorithm>
#include <unordered_map>

namespace preserve::import {
namespace {

// Share of the kernels that are products by name which must stand where the framework multiplied.
constexpr double kLeastAgreement = 0.9;
constexpr size_t kComparisonLimit = 500'000'000;  // calls of captures, for all replays

using Calls = std::vector<const CapturedCall*>;
using Node = ReplayedGraph::Node;

// Reads operands of its own, and not what another kernel of its operator left.
bool reads_operands(gpu::KernelClass kernel_class) {
  switch (kernel_class) {
    case gpu::KernelClass::elementwise:
    case gpu::KernelClass::reduction:
    case gpu::KernelClass::copy:
    case gpu::KernelClass::sampling:
    case gpu::KernelClass::kv_store:
      return false;
    default:
      return true;
  }
}

bool is_product(gpu::KernelClass kernel_class) {
  return kernel_class == gpu::KernelClass::matmul || kernel_class == gpu::KernelClass::experts;
}

// As many kernels as the graph has, each with a name.
bool is_named(const CapturedGraph& graph) {
  bool any = false;
  for (const CapturedCall& call : graph.calls) {
    if (!call.copies && call.kernel == 0) return false;
    any = any || !call.copies;
  }
  return any;
}

// The k-th kernel of a name comes from the k-th call of that name. Graphs may run in another order
// than they were captured in, and recorders lose calls; no name may have fewer calls than kernels.
Calls by_name(const ReplayedGraph& replay, const CapturedGraph& graph) {
  std::unordered_map<uint32_t, std::vector<const CapturedCall*>> of_name;
  for (const CapturedCall& call : graph.calls) {
    if (!call.copies) of_name[call.kernel].push_back(&call);
  }
  std::unordered_map<uint32_t, size_t> used;
  for (const Node& node : replay.nodes) used[node.name] += node.copies ? 0 : 1;
  for (const auto& [name, count] : used) {
    if (count == 0) continue;
    const auto found = of_name.find(name);
    if (found == of_name.end() || found->second.size() != count) return {};
  }
  Calls calls;
  std::unordered_map<uint32_t, size_t> next;
  for (const Node& node : replay.nodes) {
    calls.push_back(node.copies ? nullptr : of_name.at(node.name)[next[node.name]++]);
  }
  return calls;
}

// In order, with or without the copies: some of them become kernels, or nothing at all.
Calls by_place(const ReplayedGraph& replay, const CapturedGraph& graph) {
  const auto in_order = [&](bool with_copies) {
    Calls calls;
    size_t next = 0;
    const auto pass_copies = [&] {
      while (!with_copies && next < graph.calls.size() && graph.calls[next].copies) ++next;
    };
    for (const Node& node : replay.nodes) {
      if (!with_copies && node.copies) {
        calls.push_back(nullptr);
        continue;
      }
      pass_copies();
      if (next == graph.calls.size() || graph.calls[next].copies != node.copies) return Calls{};
      calls.push_back(&graph.calls[next++]);
    }
    pass_copies();
    return next == graph.calls.size() ? calls : Calls{};
  };
  Calls calls = in_order(true);
  if (calls.empty()) calls = in_order(false);
  int64_t products = 0, agreeing = 0;
  for (size_t i = 0; i < calls.size(); ++i) {
    if (calls[i] == nullptr || !is_product(replay.nodes[i].kernel_class)) continue;
    ++products;
    agreeing += calls[i]->multiplies ? 1 : 0;
  }
  const bool multiplies = std::any_of(graph.calls.begin(), graph.calls.end(),
                                      [](const CapturedCall& call) { return call.multiplies; });
  if (multiplies &&
      static_cast<double>(agreeing) < kLeastAgreement * static_cast<double>(products)) {
    return {};
  }
  return calls;
}

bool alike(const CapturedGraph& a, const CapturedGraph& b) {
  return std::equal(a.calls.begin(), a.calls.end(), b.calls.begin(), b.calls.end(),
                    [](const CapturedCall& x, const CapturedCall& y) {
                      return x.operands == y.operands && x.op_name == y.op_name;
                    });
}

// The first kernel of an operator that reads operands has them; those after it read what it left.
void leave_to_first(const ReplayedGraph& replay, Calls& calls) {
  std::unordered_map<uint32_t, size_t> taken;  // by operator
  for (size_t i = 0; i < calls.size(); ++i) {
    const gpu::KernelClass kernel = replay.nodes[i].kernel_class;
    const bool communicates =
        kernel == gpu::KernelClass::collective || kernel == gpu::KernelClass::p2p;
    if (calls[i] == nullptr || communicates) continue;
    if (!reads_operands(kernel) || (calls[i]->op != 0 && !taken.emplace(calls[i]->op, i).second)) {
      calls[i] = nullptr;
    }
  }
}

}  // namespace

GraphCaptures::Join GraphCaptures::join(const ReplayedGraph& replay, std::optional<int64_t> rank,
                                        int64_t tokens) const {
  struct Candidate {
    const CapturedGraphs* from;
    const CapturedGraph* graph;
    Calls calls;
  };
  std::vector<Candidate> fitting;
  for (const CapturedGraphs& file : files_) {
    if (file.rank && rank && *file.rank != *rank) continue;
    for (const CapturedGraph& graph : file.graphs) {
      compared_ += 1 + graph.calls.size();
      if (compared_ > kComparisonLimit) return {};
      Calls calls = is_named(graph) ? by_name(replay, graph) : Calls{};
      if (calls.empty()) calls = by_place(replay, graph);
      if (!calls.empty()) fitting.push_back({&file, &graph, std::move(calls)});
    }
  }
  if (tokens > 0) {
    int64_t smallest = INT64_MAX;
    for (const Candidate& each : fitting) {
      if (each.graph->tokens >= tokens) smallest = std::min(smallest, each.graph->tokens);
    }
    std::erase_if(fitting, [&](const Candidate& each) {
      return each.graph->tokens != 0 && each.graph->tokens != smallest;
    });
  }
  if (fitting.empty()) return {};
  Candidate& first = fitting.front();
  for (const Candidate& other : fitting) {
    if (other.from != first.from || !alike(*other.graph, *first.graph)) return {Why::ambiguous};
  }
  leave_to_first(replay, first.calls);
  return {Why::joined, first.from, std::move(first.calls), fitting.size() == 1};
}

}  // namespace preserve::import
