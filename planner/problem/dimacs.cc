// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/dimacs.h"

#include <fmt/format.h>

#include <iterator>

namespace preserve {

std::string to_dimacs(const PlanProblem& problem) {
  const FlowProblem& flow = problem.flow;
  const size_t nodes = flow.hold.size();
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out,
                 "c prefetch plan as a minimum-cost circulation, 1 unit of flow = {} bytes\n"
                 "c cost_per_ns {}\n"
                 "c node 1: outside; node i + 2: i-th boundary of the step's ring\n"
                 "p min {} {}\n",
                 kBlockBytes, kPriceScale, nodes + 1,
                 flow.supplies.size() + flow.demands.size() + nodes);
  for (const FlowSupply& supply : flow.supplies) {
    fmt::format_to(out, "a 1 {} 0 {} {}\n", supply.node + 2, supply.capacity, supply.cost);
  }
  for (const FlowDemand& demand : flow.demands) {
    fmt::format_to(out, "a {} 1 0 {} {}\n", demand.node + 2, demand.capacity, -demand.profit);
  }
  for (size_t i = 0; i < nodes; ++i) {
    fmt::format_to(out, "a {} {} 0 {} 0\n", i + 2, (i + 1) % nodes + 2, flow.hold[i]);
  }
  return fmt::to_string(text);
}

}  // namespace preserve
