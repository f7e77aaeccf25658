// SPDX-License-Identifier: Apache-2.0
// CUDA graphs of a program under a plan, on the emulated driver: what editing one before it is
// instantiated takes, without the time of a real driver's calls, and what is added to each free.
#include <cstdlib>
#include <ctime>
#include <map>
#include <vector>

#include "apply/library/cuda/editor.h"
#include "tests/apply/library/cuda/process.h"
#include "tests/bench/metric.h"

using namespace preserve;

namespace {

double thread_us() {  // nothing in it waits
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// Of a chain of `nodes` kernels, every third with a prefetch of two slices beside it.
std::vector<double> us_per_edit(const apply::Driver& driver, size_t nodes) {
  constexpr int kRuns = 9;
  const test::Step step = test::decode_step(nodes / 3);
  const test::Plan plan(step, {});
  const apply::PrefetchKernel prefetch = test::emulated_prefetch();
  apply::Editor editor(driver, plan.view(), test::no_names());
  std::vector<double> all_us;
  for (int run = 0; run < kRuns; ++run) {
    const test::Program program(step, 512);
    apply::AddedNodes added;
    CUresult error = CUDA_SUCCESS;
    const double start_us = thread_us();
    const apply::Refusal refusal = editor.edit(program.graph(), prefetch, added, error);
    const double taken_us = thread_us() - start_us;
    if (refusal != apply::Refusal::none) std::exit(EXIT_FAILURE);
    all_us.push_back(taken_us);
  }
  return all_us;
}

// What is added to calls of a program that do not concern the plan, while `graphs` fetch from
// memory of their own.
struct Beside {
  std::vector<double> ns_per_free, ns_per_launch;
};
Beside beside(size_t graphs) {
  constexpr int kRuns = 9, kCalls = 10'000;
  const test::Step step = test::decode_step(3);
  test::Process process(step);
  std::vector<std::unique_ptr<test::Program>> programs;
  std::vector<CUgraphExec> executables;
  for (size_t i = 0; i < graphs; ++i) {
    const CUgraph graph = programs.emplace_back(new test::Program(step, 512))->graph();
    const auto begun = process.session->instantiating(graph, 0);
    CUgraphExec& executable = executables.emplace_back();
    if (!begun.matched ||
        cuGraphInstantiateWithFlags(&executable, graph, begun.flags) != CUDA_SUCCESS) {
      std::exit(EXIT_FAILURE);
    }
    process.session->instantiated(graph, executable, begun, true);
  }
  Beside all;
  const auto ns_per_call = [&](auto call) {
    const double start_us = thread_us();
    for (uint64_t i = 1; i <= kCalls; ++i) call(i);
    return (thread_us() - start_us) * 1e3 / kCalls;
  };
  CUgraphExec_st other;
  for (int run = 0; run < kRuns; ++run) {
    all.ns_per_free.push_back(
        ns_per_call([&](uint64_t i) { process.session->freed(i * 4096, 1); }));
    all.ns_per_launch.push_back(
        ns_per_call([&](uint64_t) { (void)process.session->launching(&other, process.stream); }));
  }
  for (size_t i = 0; i < graphs; ++i) {
    process.session->destroyed(executables[i]);
    cuGraphExecDestroy(executables[i]);
    process.session->destroyed(programs[i]->graph());
  }
  return all;
}

}  // namespace

int main() {
  const apply::Driver driver = test::emulated_driver();
  std::map<size_t, double> median_us;
  for (const size_t nodes : {12u, 99u, 999u, 2001u, 5001u}) {
    const std::vector<double> us = us_per_edit(driver, nodes);
    median_us[nodes] = median(us);
    const std::string metric = "editing a graph of " + std::to_string(nodes) + " nodes, emulated";
    if (nodes == 2001) {
      bench::report_metric("apply graphs", metric, "us", us, "at most 5000 us with a real driver",
                           median_us[nodes] <= 5000);
    } else if (nodes == 5001) {
      bench::report_metric("apply graphs", metric, "us", us, "at most 6 times that of 999 nodes",
                           median_us[nodes] <= 6 * median_us[999]);
    } else {
      bench::report_metric("apply graphs", metric, "us", us);
    }
  }
  const Beside one = beside(1), many = beside(200);
  bench::report_metric("apply graphs", "a free beside 1 graph", "ns", one.ns_per_free);
  bench::report_metric("apply graphs", "a free beside 200 graphs", "ns", many.ns_per_free,
                       "at most 3 times that beside 1",
                       median(many.ns_per_free) <= 3 * median(one.ns_per_free));
  bench::report_metric("apply graphs", "a launch of no graph of the plan beside 200", "ns",
                       many.ns_per_launch, "at most 1000 ns", median(many.ns_per_launch) <= 1000);
  return EXIT_SUCCESS;
}
