// SPDX-License-Identifier: Apache-2.0
// What the library of preserve-apply adds to an MPI collective of a real program while its plan is
// off: the same loop of MPI_Allreduce on MPI_COMM_SELF in child processes with and without it,
// alternating.
#include <mpi.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "apply/outcome_file.h"
#include "common/error.h"
#include "common/private_folder.h"
#include "tests/apply/library/scripted_mpi.h"
#include "tests/bench/measured_child.h"
#include "tests/bench/metric.h"
#include "tests/support/paths.h"

namespace {

namespace fs = std::filesystem;

constexpr int kCalls = 2'000'000, kRepetitions = 15;

// Child: ns per call.
int loop(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  double mine = 1, all = 0;
  const auto sum = [&] { MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_SELF); };
  for (int i = 0; i < kCalls / 10; ++i) sum();
  const double wall_s = preserve::bench::seconds_of([&] {
    for (int i = 0; i < kCalls; ++i) sum();
  });
  std::printf("%.4f\n", 1e9 * wall_s / kCalls);
  MPI_Finalize();
  return 0;
}

double run_child(const fs::path& plan) {
  // One process, without mpirun.
  std::vector<std::string> environment{"OMPI_MCA_ess_singleton_isolated=1"};
  if (!plan.empty()) {
    environment.emplace_back("LD_PRELOAD=" PRESERVE_PLUGIN_DIR "/libpreserve_apply.so");
    environment.push_back("PRESERVE_APPLY_PLAN=" + plan.string());
  }
  return preserve::bench::measured_child("loop", std::move(environment));
}

// That the last child had the plan, saw all calls, and was off; the folder is emptied but for it.
void check_outcome(const fs::path& folder, const fs::path& plan) {
  bool seen = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path() == plan) continue;
    if (entry.path().extension() == ".outcome") {
      std::ifstream in(entry.path(), std::ios::binary);
      preserve::apply::OutcomeHeader header{};
      in.read(reinterpret_cast<char*>(&header), sizeof(header));
      seen = in.good() && header.off == preserve::apply::Off::rank_count &&
             header.collectives >= kCalls;
    }
    fs::remove(entry.path());
  }
  if (!seen) throw preserve::internal_error("the library did not see the calls, or was not off");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "loop") == 0) return loop(argc, argv);
  const preserve::PrivateFolder own("preserve-bench");
  const fs::path folder = own.path(), plan = folder / "2-ranks.plan";
  preserve::apply::PlanContent content = preserve::apply::scripted_plan();
  content.header.folder = content.add_text(folder.string());
  std::ofstream(plan, std::ios::binary) << content.encoded();
  std::vector<double> bare, added;
  for (int i = 0; i < kRepetitions; ++i) {
    bare.push_back(run_child({}));
    added.push_back(run_child(plan) - bare.back());
    check_outcome(folder, plan);
    std::fprintf(stderr, "%.1f ns, and %.1f ns more with a plan that is off\n", bare.back(),
                 added.back());
  }
  using preserve::bench::report_metric;
  report_metric("apply calls", "MPI_Allreduce on one rank, a plan loaded but off, beyond without",
                "ns", added, "at most 300 ns", preserve::median(added) <= 300);
  report_metric("apply calls", "MPI_Allreduce on one rank, without the library", "ns", bare);
  return 0;
}
