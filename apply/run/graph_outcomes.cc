// SPDX-License-Identifier: Apache-2.0
#include "apply/run/graph_outcomes.h"

#include <fmt/format.h>

#include <array>

#include "common/text.h"
#include "common/units.h"

namespace preserve::apply {
namespace {

constexpr size_t kRefusals = static_cast<size_t>(Refusal::count);
constexpr uint64_t kNodeBytes = 10'000;  // of a kernel node in an executable graph, about

std::string count_graphs(uint64_t count) {
  return count_of(static_cast<int64_t>(count), "graph");
}

// "3 graphs are left as they are: it has conditional nodes"
void remark_on_refusals(const Outcomes& outcomes, std::vector<std::string>& remarks) {
  std::array<uint64_t, kRefusals> counts{};
  for (const Outcome& process : outcomes.processes) {
    for (size_t i = 0; i < kRefusals; ++i) {
      counts[i] += process.view.header().graphs.refused[i];
    }
  }
  for (size_t i = 1; i < kRefusals; ++i) {
    if (counts[i] == 0) continue;
    remarks.push_back(fmt::format("left as it was {}: a CUDA graph, because {}",
                                  count_of(static_cast<int64_t>(counts[i]), "time"),
                                  kRefusalNames[i]));
  }
}

void remark_on_process(const Outcome& process, std::vector<std::string>& remarks) {
  const OutcomeHeader& header = process.view.header();
  const GraphCounts& graphs = header.graphs;
  const std::string who = fmt::format("process {}", header.pid);
  if (header.off != Off::none) {
    remarks.push_back(fmt::format("{}: off: {} ({})", who,
                                  kOffNames[static_cast<size_t>(header.off)],
                                  printable(process.view.library(), 100)));
  }
  if (graphs.edited == 0) return;
  remarks.push_back(fmt::format("{}: {} with {} of the plan, which take about {} of GPU memory",
                                who, count_graphs(graphs.edited),
                                count_of(static_cast<int64_t>(graphs.nodes), "node"),
                                format_size(graphs.nodes * kNodeBytes)));
  if (graphs.disables == 0 && graphs.nodes > 0 && header.locks > 0) {
    remarks.push_back(fmt::format(
        "{}: arm original runs the nodes of the plan, switched off, as arm null does: the program "
        "destroyed the template of its graph, without which nodes cannot be disabled",
        who));
  }
  if (graphs.priorities == 0 && graphs.nodes > 0) {
    remarks.push_back(fmt::format(
        "{}: the program instantiates its graphs without priorities of nodes, so prefetches have "
        "that of the stream that the graph is launched into",
        who));
  }
  if (graphs.missing_bytes > 0) {
    remarks.push_back(fmt::format(
        "{}: {} of the plan per step are not fetched: the parameters or the NVTX regions that name "
        "them point to no live memory of the GPU, or their kernel is not in the graph",
        who, format_size(graphs.missing_bytes)));
  }
  if (graphs.unpaired > 0) {
    remarks.push_back(fmt::format("{}: {} not measured, made while others were still under way",
                                  who, count_of(static_cast<int64_t>(graphs.unpaired), "launch")));
  }
  if (header.off == Off::none && header.locks == 0) {
    remarks.push_back(fmt::format("{}: no graph of the plan was launched often enough", who));
  }
}

}  // namespace

std::vector<std::string> graph_remarks_on(const Outcomes& outcomes) {
  std::vector<std::string> remarks = outcomes.damaged;
  if (outcomes.processes.empty()) {
    remarks.emplace_back(
        "no process loaded the library, so the program ran as it is: it started no CUDA, or its "
        "environment was stripped on the way (sudo, env -i, a container: CUDA_INJECTION64_PATH and "
        "PRESERVE_APPLY_GRAPH_PLAN must arrive)");
    return remarks;
  }
  remark_on_refusals(outcomes, remarks);
  for (const Outcome& process : outcomes.processes) remark_on_process(process, remarks);
  if (outcomes.ranks().empty()) {
    remarks.emplace_back("no CUDA graph of the program got the plan, so it ran as it is");
  }
  return remarks;
}

}  // namespace preserve::apply
