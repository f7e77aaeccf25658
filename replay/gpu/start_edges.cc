// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/start_edges.h"

#include <optional>

#include "common/error.h"

namespace preserve {
namespace {

constexpr int64_t kHoldNs = 200'000;  // far longer than anything takes to begin
constexpr int kTimes = 4;

GpuGraph two_nodes() {
  const GpuNode held{.kind = GpuNodeKind::stand_in, .op = 0, .ctas = 1, .hold_ns = kHoldNs};
  const GpuNode with{.op = 1, .after = {0}, .with_start_of = true};
  return {.nodes = {held, with}, .ops = 2};
}

bool needs_start_edges(const ReplayArm& arm) {
  return !arm.windows.empty() && arm.method.issue == "after";
}

}  // namespace

std::string start_edge_problem(GpuDevice& device) {
  int graph = 0;
  try {
    graph = device.add(two_nodes());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    return error.what();
  }
  device.run(graph, 1);
  const GpuRun run = device.run(graph, kTimes);
  device.drop(graph);
  if (run.op_start_ns.at(1) - run.op_start_ns.at(0) < kHoldNs / 2.0) return {};
  return "this driver lets a node wait for the end of the node that it may begin with";
}

void settle_starts(GpuDevice& device, GpuPlan& plan) {
  std::optional<std::string> problem;
  for (ReplayArm& arm : plan.arms) {
    if (!needs_start_edges(arm)) continue;
    if (!problem) problem = start_edge_problem(device);
    if (problem->empty()) return;
    arm.method.issue = "before";
  }
  if (!problem) return;
  plan.warnings.push_back(
      fmt::format("prefetches with issue after are issued before their collectives: {}", *problem));
}

}  // namespace preserve
