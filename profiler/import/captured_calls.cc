// SPDX-License-Identifier: Apache-2.0
// ProcessBuilder's part of graph_captures.h: what a thread did while it captured a graph, and what
// replays run.
#include <algorithm>

#include "db/step/stated_tokens.h"
#include "profiler/gpu/activity_rows.h"
#include "profiler/gpu/operand_bytes.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {
namespace {

constexpr size_t kNodeLimit = 4'000'000;  // of all graphs; those beyond get no operands
constexpr size_t kCallLimit = 4'000'000;

}  // namespace

// Calls between the begin and the end of a capture, as activities that never ran.
void ProcessBuilder::list_captured(LaunchedSorter& out) {
  if (!captures_graphs_) return;
  capture_calls_.sort();
  CaptureCall call;
  bool inside = false;
  uint32_t thread = kNoThread;
  int64_t until_ns = INT64_MIN;
  size_t calls = 0;
  while (capture_calls_.next(call)) {
    if (call.thread != thread) inside = false;
    thread = call.thread;
    if (call.what == CaptureCall::begins || call.what == CaptureCall::ends) {
      inside = call.what == CaptureCall::begins;
      if (inside) captured_.emplace_back();
      until_ns = INT64_MIN;
      continue;
    }
    // A call of the runtime may be recorded once more as the driver's inside it.
    if (!inside || call.start_ns < until_ns || calls == kCallLimit) continue;
    until_ns = call.end_ns;
    ++calls;
    GpuActivity activity;
    activity.capture = static_cast<uint32_t>(captured_.size());
    activity.name = call.kernel;
    activity.is_copy = call.what == CaptureCall::copies;
    activity.thread = call.thread;
    activity.start_ns = activity.launch_ns = call.start_ns;
    out.add(activity);
  }
}

// Everything around the call: which of its kernels has the operands is known with the replay.
void ProcessBuilder::note_captured(const GpuActivity& call, std::vector<OpenRange>& open) {
  close_ranges(call, open);
  CapturedCall note{.kernel = call.name, .copies = call.is_copy};
  if (!open.empty()) note.scope = open.back().scope;
  for (size_t i = open.size(); i-- > 0;) {
    const HostRange& around = open[i].range;
    if (note.communication == 0) note.communication = around.communication;
    if (note.operands != 0 || around.operands == 0) continue;
    note.operands = around.operands;
    note.op_name = around.name;
    note.op = open[i].number;
  }
  captured_[call.capture - 1].calls.push_back(note);
}

CapturedGraphs ProcessBuilder::take_captures() {
  if (!finished_) {
    LaunchedSorter calls;
    StreamSorter none;
    list_captured(calls);
    place_in_ranges(calls, none);
  }
  std::unordered_map<uint32_t, std::string> names;
  const auto name_of = [&](uint32_t id) -> const std::string& {
    const auto [entry, fresh] = names.try_emplace(id);
    if (fresh) entry->second = gpu::text_of(db_, id);
    return entry->second;
  };
  for (CapturedGraph& graph : captured_) {
    std::map<int64_t, int64_t> votes;
    for (CapturedCall& call : graph.calls) {
      if (call.operands == 0) continue;
      const auto product = gpu::product_shape(name_of(call.op_name), "", gpu::KernelClass::other,
                                              operands_.at(call.operands));
      call.multiplies = product.has_value();
      if (product) ++votes[product->m];
    }
    const auto most = std::ranges::max_element(
        votes, [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most != votes.end()) graph.tokens = most->first;
  }
  std::erase_if(captured_, [](const CapturedGraph& graph) { return graph.calls.empty(); });
  return {source_file, row.rank, std::move(captured_), operands_, scopes_, communications_};
}

// The nodes of a graph in the order of its capture: that of their numbers where the file has them,
// else the order in which they ran.
void ProcessBuilder::note_replayed(const std::vector<GpuActivity>& group) {
  if (replayed_nodes_ + group.size() > kNodeLimit) return;
  replayed_nodes_ += group.size();
  std::vector<uint32_t> order(group.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  const bool numbered = std::ranges::all_of(
      group, [](const GpuActivity& activity) { return activity.graph_node != gpu::kNoNode; });
  std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) {
    return numbered ? group[a].graph_node < group[b].graph_node
                    : group[a].start_ns < group[b].start_ns;
  });
  ReplayedGraph& graph = replayed_.emplace_back();
  graph.node_of.resize(group.size());
  for (const uint32_t i : order) {
    graph.node_of[i] = static_cast<uint32_t>(graph.nodes.size());
    graph.nodes.push_back({group[i].name, identity(group[i].name).kernel_class, group[i].is_copy});
  }
}

// Of the step around a replay, by the innermost range that says it.
int64_t ProcessBuilder::tokens_of(const std::vector<OpenRange>& open) {
  for (size_t i = open.size(); i-- > 0;) {
    const auto [entry, fresh] = tokens_.try_emplace(open[i].range.name, 0);
    if (fresh) {
      const std::string name = gpu::text_of(db_, open[i].range.name);
      entry->second = stated_tokens(name, StepPhase::decode)
                          .value_or(stated_tokens(name, StepPhase::prefill).value_or(0));
    }
    if (entry->second > 0) return entry->second;
  }
  return 0;
}

}  // namespace preserve::import
