// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/graph_captures.h"

#include <algorithm>
#include <unordered_map>

namespace preserve::import {
namespace {

// Share of the kernels that are products by name which must stand where the framework multiplied.
constexpr double kLeastAgreement = 0.9;

using Calls = std::vector<const CapturedCall*>;
using Node = ReplayedGraph::Node;

bool is_product(gpu::KernelClass kernel_class) {
  return kernel_class == gpu::KernelClass::matmul || kernel_class == gpu::KernelClass::experts;
}

// As many kernels as the graph has, each with a name.
bool is_named(const CapturedGraph& graph) {
  const auto named = [](const CapturedCall& call) { return call.copies || call.kernel != 0; };
  return std::ranges::all_of(graph.calls, named) &&
         !std::ranges::all_of(graph.calls, &CapturedCall::copies);
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
  const bool multiplies = std::ranges::any_of(graph.calls, &CapturedCall::multiplies);
  if (multiplies &&
      static_cast<double>(agreeing) < kLeastAgreement * static_cast<double>(products)) {
    return {};
  }
  return calls;
}

bool alike(const CapturedGraph& a, const CapturedGraph& b) {
  return std::ranges::equal(a.calls, b.calls, [](const CapturedCall& x, const CapturedCall& y) {
    return x.operands == y.operands && x.op_name == y.op_name;
  });
}

// By node of the replay; empty when the graph is another one.
Calls calls_of(const ReplayedGraph& replay, const CapturedGraph& graph) {
  Calls calls = is_named(graph) ? by_name(replay, graph) : Calls{};
  return calls.empty() ? by_place(replay, graph) : calls;
}

// Takes what comparing with `graph` costs.
bool is_enough(int64_t& left, const CapturedGraph& graph) {
  left -= 1 + std::ssize(graph.calls);
  return left >= 0;
}

// The first kernel of an operator that reads operands has them; those after it read what it left.
void leave_to_first(const ReplayedGraph& replay, Calls& calls) {
  std::unordered_map<uint32_t, size_t> taken;  // by operator
  for (size_t i = 0; i < calls.size(); ++i) {
    const gpu::KernelClass kernel = replay.nodes[i].kernel_class;
    if (calls[i] == nullptr || gpu::communicates(kernel)) continue;
    if (!gpu::reads_operands(kernel) ||
        (calls[i]->op != 0 && !taken.emplace(calls[i]->op, i).second)) {
      calls[i] = nullptr;
    }
  }
}

}  // namespace

std::vector<GraphCaptures::Fitting> GraphCaptures::fitting(const ReplayedGraph& replay,
                                                           std::optional<int64_t> rank,
                                                           int64_t& left) const {
  std::vector<Fitting> fitting;
  for (const CapturedGraphs& file : files_) {
    if (file.rank && rank && *file.rank != *rank) continue;
    for (const CapturedGraph& graph : file.graphs) {
      if (!is_enough(left, graph)) return {};
      if (!calls_of(replay, graph).empty()) fitting.push_back({&file, &graph});
    }
  }
  return fitting;
}

GraphCaptures::Join GraphCaptures::join(const ReplayedGraph& replay, std::vector<Fitting> fitting,
                                        int64_t tokens, int64_t& left) {
  if (left < 0) return {Why::too_many};
  if (tokens > 0) {
    int64_t smallest = INT64_MAX;
    for (const Fitting& each : fitting) {
      if (each.graph->tokens >= tokens) smallest = std::min(smallest, each.graph->tokens);
    }
    std::erase_if(fitting, [&](const Fitting& each) {
      return each.graph->tokens != 0 && each.graph->tokens != smallest;
    });
  }
  if (fitting.empty()) return {};
  const Fitting& first = fitting.front();
  for (const Fitting& other : fitting) {
    if (!is_enough(left, *other.graph)) return {Why::too_many};
    if (other.from != first.from || !alike(*other.graph, *first.graph)) return {Why::ambiguous};
  }
  Calls calls = calls_of(replay, *first.graph);
  leave_to_first(replay, calls);
  return {Why::joined, first.from, std::move(calls), fitting.size() == 1};
}

}  // namespace preserve::import
