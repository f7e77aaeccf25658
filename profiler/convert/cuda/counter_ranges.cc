// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/counter_ranges.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "profiler/convert/cuda/node_history.h"

namespace preserve::cuda {
namespace {

class ActivityMaker {
 public:
  explicit ActivityMaker(Run& run) : run_(run), nodes_(run) {
    for (auto& [handle, executables] : run.executables) {
      std::ranges::stable_sort(executables, {}, &Executable::time_ns);
    }
  }

  void add(const CounterLaunch& counted) {
    const Launch& launch = run_.launches[counted.launch];
    summary_.measured += static_cast<int64_t>(counted.values.size());
    if (launch.kind == LaunchKind::graph) {
      ++summary_.graphs;
      const std::vector<uint64_t> nodes = nodes_in_order(launch, counted.total);
      if (!nodes.empty() && counted.total == nodes.size() &&
          counted.values.size() == nodes.size()) {
        for (size_t i = 0; i < nodes.size(); ++i) add(counted, i, nodes[i], counted.values[i]);
        return;
      }
      ++summary_.whole_graphs;
      if (counted.total == counted.values.size()) add(counted, 0, 0, sum(counted.values));
      return;
    }
    // More than one range: something else ran meanwhile, and nobody knows which is which.
    if (counted.total == 1 && counted.values.size() == 1) add(counted, 0, 0, counted.values[0]);
  }
  const CounterSummary& summary() const { return summary_; }

 private:
  // Kernel nodes of the graph that this launch ran, in the order of their capture; empty when that
  // order is not known to be the order of execution, or when they are not as many as `wanted`.
  std::vector<uint64_t> nodes_in_order(const Launch& launch, uint64_t wanted) const {
    const auto known = run_.executables.find(launch.function);
    if (known == run_.executables.end()) return {};
    // Handles are reused: the latest before the launch.
    const auto after =
        std::ranges::upper_bound(known->second, launch.time_ns, {}, &Executable::time_ns);
    if (after == known->second.begin()) return {};
    const Executable* executable = &*(after - 1);
    if (executable->nodes.size() != wanted) return {};
    std::vector<std::pair<uint32_t, uint64_t>> order;
    uint64_t stream = 0;
    uint32_t tid = 0;
    for (const uint64_t node : executable->nodes) {
      const uint32_t origin = nodes_.find(node, launch.time_ns);
      if (origin == kNone || run_.launches[origin].kind != LaunchKind::kernel) return {};
      const Launch& captured = run_.launches[origin];
      if (order.empty()) stream = captured.stream, tid = captured.tid;
      if (captured.stream != stream || captured.tid != tid) return {};
      order.emplace_back(captured.order, node);
    }
    std::ranges::sort(order);
    std::vector<uint64_t> nodes;
    nodes.reserve(order.size());
    for (const auto& [position, node] : order) nodes.push_back(node);
    return nodes;
  }

  static std::array<double, kCounters> sum(
      const std::vector<std::array<double, kCounters>>& values) {
    std::array<double, kCounters> all{};
    for (const auto& one : values) {
      for (size_t i = 0; i < kCounters; ++i)
        all[i] = one[i] < 0 || all[i] < 0 ? -1 : all[i] + one[i];
    }
    return all;
  }

  void add(const CounterLaunch& counted, size_t place, uint64_t node,
           const std::array<double, kCounters>& values) {
    const Launch& launch = run_.launches[counted.launch];
    const auto parts = static_cast<int64_t>(node == 0 ? 1 : counted.values.size());
    const int64_t dur_ns = std::max<int64_t>(counted.end_ns - launch.time_ns, 0);
    Activity activity;
    activity.start_ns = launch.time_ns + dur_ns * static_cast<int64_t>(place) / parts;
    activity.end_ns = launch.time_ns + dur_ns * static_cast<int64_t>(place + 1) / parts;
    if (node != 0) activity.graph_node = static_cast<int64_t>(node);
    activity.correlation = launch.correlation;
    activity.stream = stream(counted.device, launch);
    activity.counters = static_cast<uint32_t>(run_.counter_values.size());
    run_.counter_values.push_back(values);
    run_.activities.push_back(activity);
    summary_.given += static_cast<int64_t>(node == 0 ? counted.values.size() : 1);
  }

  // The recording knows streams by handle only: they are numbered as they appear.
  uint32_t stream(uint32_t device, const Launch& launch) {
    const auto [entry, fresh] =
        streams_.try_emplace({device, launch.context, launch.stream}, streams_.size() + 1);
    return run_.streams.index({device, launch.context, static_cast<int64_t>(entry->second)});
  }

  Run& run_;
  const NodeHistory nodes_;
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, size_t> streams_;
  CounterSummary summary_;
};

}  // namespace

CounterSummary add_counter_activities(Run& run) {
  if (run.counter_launches.empty()) return {};
  ActivityMaker maker(run);
  for (const CounterLaunch& counted : run.counter_launches) maker.add(counted);
  return maker.summary();
}

void name_counter_activities(Run& run) {
  std::unordered_map<std::string, uint32_t> added;
  const auto name = [&](const std::string& text) {
    const auto [entry, fresh] = added.try_emplace(text, static_cast<uint32_t>(run.names.size()));
    if (fresh) run.names.push_back(text);
    return entry->second;
  };
  for (Activity& activity : run.activities) {
    if (activity.counters == kNone || activity.name != 0) continue;
    const Launch* origin = activity.origin == kNone ? nullptr : &run.launches[activity.origin];
    const auto function =
        origin == nullptr ? run.functions.end() : run.functions.find(origin->function);
    if (origin != nullptr && origin->kind == LaunchKind::graph) {
      activity.name = name("CUDA graph");
    } else {
      activity.name = function == run.functions.end() || function->second.name == 0
                          ? name("(unknown kernel)")
                          : function->second.name;
    }
  }
}

}  // namespace preserve::cuda
