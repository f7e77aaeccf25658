// SPDX-License-Identifier: Apache-2.0
// What the library of preserve-apply adds to a program while it fetches nothing: to a collective
// with a plan that is off, behind the MPI wrappers, and to a turn of the progress engine outside a
// window.
#include <cstdlib>
#include <vector>

#include "tests/apply/library/scripted_mpi.h"
#include "tests/bench/metric.h"

using namespace preserve;

namespace {

template <typename Call>
std::vector<double> ns_per_call(Call call) {
  constexpr int kRuns = 15, kCalls = 1'000'000;
  std::vector<double> all_ns;
  for (int run = 0; run < kRuns; ++run) {
    all_ns.push_back(1e9 / kCalls * bench::seconds_of([&] {
                       for (int i = 0; i < kCalls; ++i) call();
                     }));
  }
  return all_ns;
}

}  // namespace

int main() {
  apply::ScriptedRank rank(apply::scripted_plan(), 3);  // planned for another number of ranks
  rank.load();
  apply::Session& session = rank.session();
  if (rank.seen().off != apply::Off::rank_count) return EXIT_FAILURE;
  const apply::Collective collective = apply::ScriptedRank::allreduce(100);
  const auto off_ns = ns_per_call([&] {
    session.began(collective, 1, true);
    session.ended(2);
  });
  bench::report_metric("apply session", "collective with a plan that is off, without the wrapper",
                       "ns", off_ns, "at most 300 ns", median(off_ns) <= 300);
  const auto turn_ns = ns_per_call([] {
    apply::Session::turn();
    asm volatile("" : : : "memory");
  });
  bench::report_metric("apply session", "turn of the progress engine outside a window", "ns",
                       turn_ns, "at most 20 ns", median(turn_ns) <= 20);
  return EXIT_SUCCESS;
}
