// SPDX-License-Identifier: Apache-2.0
// Editing a CUDA graph before it is instantiated, on the emulated driver: the time of a real
// driver's calls is not in it, but how it grows with the graph is.
#include <cstdlib>
#include <ctime>
#include <map>
#include <vector>

#include "apply/library/cuda/editor.h"
#include "tests/apply/library/cuda/program.h"
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
      bench::report_metric("apply graphs", metric, "us", us, "", true);
    }
  }
  return EXIT_SUCCESS;
}
