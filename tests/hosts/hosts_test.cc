// SPDX-License-Identifier: Apache-2.0
// What a recording of several hosts holds, with a clock that is another one on purpose, and of MPI
// libraries and languages beside those that the other tests use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "common/clock.h"
#include "tests/profiler/collector/recording.h"
#include "tests/support/exits.h"

namespace preserve {
namespace {

using test::kProfile;
using test::mpirun;
using test::Words;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

const std::string kPrograms = PRESERVE_PROGRAM_DIR "/";
const std::string kTwoHosts = PRESERVE_SOURCE_DIR "/scripts/two-hosts";
const std::string kTwoNodes = PRESERVE_SOURCE_DIR "/scripts/two-nodes";
constexpr double kShiftNs = 500e6, kPpm = 20;
constexpr int kSkipped = 77;
constexpr int kTimedOut = 124;  // says timeout

#define NEEDS(program)                    \
  if (!fs::exists(kPrograms + (program))) \
  GTEST_SKIP() << "its compiler is not installed: " << (program)

class Hosts : public ::testing::Test, protected test::TraceFile {
 protected:
  Hosts() { trace = file("trace.db"); }
  // A shell script that gives the program behind it another clock where `condition` holds.
  std::string shifting(const std::string& condition) {
    std::string file = (folder_ / "shifting").string();
    std::ofstream(file) << "#!/bin/sh\nif " << condition
                        << "; then\nexport LD_PRELOAD=$LD_PRELOAD:" << kPrograms
                        << "libshifted_clock.so SHIFTED_CLOCK=" << static_cast<int64_t>(kShiftNs)
                        << ":" << kPpm << " SHIFTED_CLOCK_FROM=" << from_ns_
                        << "\nfi\nexec \"$@\"\n";
    fs::permissions(file, fs::perms::owner_all);
    return file;
  }
  test::Run run(const std::vector<std::string>& argv) {
    return test::run_program(argv, test::kAllowRoot, folder_.path());
  }
  // trace.db of a command that ends well.
  void record(const Words& command) {
    run_ = run(test::words(kProfile, "-f", "-o", "trace.db", "--", command));
    ASSERT_EQ(run_.exit_code, 0) << run_.err;
  }
  std::string file(const char* name) const { return (folder_ / name).string(); }

  // What the shifted clock said, on the true one.
  double true_ns(double shifted) const {
    const double from = static_cast<double>(from_ns_);
    return from + (shifted - kShiftNs - from) / (1 + kPpm * 1e-6);
  }
  // By how much the times of the shifted rank are wrong in the trace, at each of `times_ns`.
  std::vector<double> errors_ns(int rank, const std::vector<int64_t>& times_ns) const {
    const TraceDb recorded = db();
    Query rows = recorded.query(
        "SELECT start_ns, offset_ns, drift FROM process JOIN clock ON process_id = id "
        "WHERE rank = ?",
        {rank});
    std::vector<double> errors(times_ns.size(), 1e18);
    if (!rows.next()) return errors;
    const auto start = static_cast<double>(rows.integer(0));
    const double own_start = start - static_cast<double>(rows.integer(1));
    for (size_t i = 0; i < times_ns.size(); ++i) {
      const auto ns = static_cast<double>(times_ns[i]);
      // The line is in times of the host's own clock.
      errors[i] = std::abs(ns - true_ns(own_start + (ns - start) / (1 + rows.real(2))));
    }
    return errors;
  }
  double worst_error_ns(int rank) const {  // at its ends
    const auto end = [&](const char* which) {
      return number(fmt::format("SELECT {} FROM process WHERE rank = {}", which, rank));
    };
    const std::vector<double> errors = errors_ns(rank, {end("start_ns"), end("end_ns")});
    return std::max(errors[0], errors[1]);
  }
  int64_t clock_number(const char* what, int rank) const {
    return number(fmt::format(
        "SELECT {} FROM clock JOIN process ON id = process_id WHERE rank = {}", what, rank));
  }
  void expect_one_clock(int rank) {
    EXPECT_LT(clock_number("offset_ns", rank), -0.8 * kShiftNs);
    // As exact as it says, which is the tightest that holds on a busy machine.
    EXPECT_LE(worst_error_ns(rank), clock_number("error_ns + residual_ns", rank) + 1000)
        << run_.err;
  }
  // The same operators, in order, whoever recorded them.
  static Words operators(const std::string& file) {
    return test::rows(
        TraceDb::open(file),
        "SELECT p.rank, s.value, c.function, c.bytes, c.dtype, c.ranks, c.sequence, c.peer, "
        "c.blocking FROM collective AS c JOIN op ON op.id = c.op_id JOIN stream ON stream.id = "
        "op.stream_id JOIN process AS p ON p.id = stream.process_id JOIN string AS s ON s.id = "
        "op.name_id ORDER BY p.rank, op.start_ns, op.id");
  }

  test::TemporaryDirectory folder_;
  const int64_t from_ns_ = monotonic_ns();
  test::Run run_;
};

TEST_F(Hosts, RanksWithAnotherClockComeOntoTheLaunchers) {
  const std::string other = shifting("[ \"$OMPI_COMM_WORLD_RANK\" = 1 ]");
  ASSERT_NO_FATAL_FAILURE(record(mpirun(2, {other, kPrograms + "hosts_program", "50", "4000"})));
  EXPECT_EQ(count("clock WHERE source = 'round_trips' AND readings >= 2"), 2);
  EXPECT_EQ(clock_number("offset_ns", 0), 0);
  expect_one_clock(1);
  // More than the shift when drift and round trips had long to add up.
  EXPECT_THAT(run_.err, ContainsRegex("clocks of 1 host: 1 process moved by up to [0-9.]+ ms"));
}

TEST_F(Hosts, FilesOfSeveralLaunchersComeOntoOneClockByTheirCollectives) {
  const std::string other = shifting("[ \"$OMPI_COMM_WORLD_RANK\" = 1 ]");
  succeeded(run(mpirun(2, {kProfile, "-o", "trace.%r.db", "--", other, kPrograms + "hosts_program",
                           "200", "1000"})));
  run_ = run({kProfile, "--merge", "trace.0.db", "trace.1.db", "-o", "trace.db"});
  ASSERT_EQ(run_.exit_code, 0) << run_.err;
  EXPECT_EQ(number("SELECT readings FROM clock WHERE source = 'collectives'"), 200);
  EXPECT_LE(number("SELECT MAX(left_early_ns) FROM clock"),
            1000 + number("SELECT MAX(residual_ns) FROM clock"));
  // A collective says no more than that both were in it at once: on a busy machine that may be
  // long.
  const TraceDb recorded = db();
  Query both = recorded.query(
      "SELECT MAX(CASE rank WHEN 1 THEN start_ns END), SUM(end_ns - start_ns) FROM "
      "collective_named WHERE function = 'allreduce' GROUP BY sequence");
  std::vector<int64_t> times_ns, allowed_ns;
  while (both.next()) {
    times_ns.push_back(both.integer(0));
    allowed_ns.push_back(both.integer(1) + 2000);
  }
  ASSERT_EQ(times_ns.size(), 200U);
  const std::vector<double> errors = errors_ns(1, times_ns);
  for (size_t i = 0; i < errors.size(); ++i) EXPECT_LE(errors[i], allowed_ns[i]) << i << run_.err;
}

// On both namespaces of scripts/two-hosts.
class Namespaces : public Hosts, public ::testing::WithParamInterface<const char*> {};

TEST_P(Namespaces, AreRecordedAsHostsOnOneClock) {
  const std::string library = GetParam();
  const bool mpich = library == "mpich";
  const std::string program = mpich ? "mpich_hosts_program" : "hosts_program";
  NEEDS(program);
  const std::string other = shifting("[ \"$(hostname)\" = right ]");
  // MPICH 4.0 over UCX may hang in MPI_Finalize on a busy machine, with or without a profiler
  // (docs/hosts.md).
  const auto record = [&] {
    return run({"timeout", "-k", "30", "-s", "INT", "60", kTwoHosts, kProfile, "-f", "-o",
                "trace.db", "--", mpich ? "mpiexec.mpich" : "mpirun", "-n", "2", other,
                kPrograms + program, "50", "4000"});
  };
  run_ = record();
  // Rarely; whether it hangs each time would show here.
  if (mpich && run_.exit_code == kTimedOut) run_ = record();
  if (run_.exit_code == kSkipped) GTEST_SKIP() << run_.err;
  ASSERT_EQ(run_.exit_code, 0) << run_.err;
  EXPECT_EQ(number("SELECT rank FROM process WHERE host = 'left'"), 0);
  EXPECT_EQ(number("SELECT rank FROM process WHERE host = 'right'"), 1);
  EXPECT_EQ(count("collective WHERE function = 'allreduce' AND bytes = 512"), 100);
  expect_one_clock(1);
  EXPECT_THAT(run_.err, ContainsRegex("clocks of 2 hosts: 1 process moved by up to [0-9.]+ ms"));
}
INSTANTIATE_TEST_SUITE_P(Mpi, Namespaces, ::testing::Values("openmpi", "mpich"),
                         [](const auto& library) { return std::string(library.param); });

// On both nodes of scripts/two-nodes. Their recordings meet in the folder of the output.
class Slurm : public Hosts, public ::testing::WithParamInterface<const char*> {
 protected:
  void run_on_nodes(const std::string& script) {
    run_ = run({kTwoNodes, "sh", "-c", script});
    if (run_.exit_code == kSkipped) GTEST_SKIP() << run_.err;
    ASSERT_EQ(run_.exit_code, 0) << run_.err;
    EXPECT_EQ(count("process WHERE rank IN (0, 1) AND world_size = 2"), 2);
    EXPECT_EQ(count("collective WHERE function = 'allreduce' AND bytes = 512"), 40);
  }
};

TEST_P(Slurm, RanksAreRecordedInFrontOfSrunAndBehindIt) {
  const bool mpich = std::string(GetParam()) == "mpich";
  const std::string program = mpich ? "mpich_hosts_program" : "hosts_program";
  NEEDS(program);
  const std::string srun = mpich ? "srun --mpi=pmi2 -N2 -n2 " : "srun --mpi=pmix -N2 -n2 ";
  const std::string command = kPrograms + program + " 20 1000";
  ASSERT_NO_FATAL_FAILURE(run_on_nodes(kProfile + " -o trace.db -- " + srun + command));
  if (IsSkipped()) return;
  EXPECT_EQ(count("clock WHERE source = 'round_trips'"), 2);
  run_on_nodes(srun + kProfile + " -o each.%r.db -- " + command + " && " + kProfile +
               " -f --merge each.0.db each.1.db -o trace.db");
}
INSTANTIATE_TEST_SUITE_P(Mpi, Slurm, ::testing::Values("openmpi", "mpich"),
                         [](const auto& library) { return std::string(library.param); });

// The same program, whichever library it is built with.
class Mpich : public Hosts, public ::testing::WithParamInterface<const char*> {};

TEST_P(Mpich, IsRecordedAsOpenMpiIs) {
  NEEDS("mpich_mpi_program");
  ASSERT_NO_FATAL_FAILURE(record(mpirun(2, {kPrograms + "mpi_program", GetParam()})));
  const test::Run mpich = succeeded(run({kProfile, "-o", "mpich.db", "--", "mpiexec.mpich", "-n",
                                         "2", kPrograms + "mpich_mpi_program", GetParam()}));
  EXPECT_EQ(operators(file("mpich.db")), operators(file("trace.db")));
  EXPECT_EQ(TraceDb::open(file("mpich.db")).meta("mpi_library").substr(0, 5), "MPICH");
  EXPECT_EQ(test::count(TraceDb::open(file("mpich.db")), "loss_nonzero"), 0);
}
INSTANTIATE_TEST_SUITE_P(Modes, Mpich,
                         ::testing::Values("every", "inplace", "nonblocking", "intercommunicator"),
                         [](const auto& mode) { return std::string(mode.param); });

// Ranks are known, calls recorded or counted by name, and results the program's own.
TEST_F(Hosts, SessionsLargeCountsAndPartitionedMessagesOfMpi4AreCountedByName) {
  NEEDS("mpich_mpi4_program");
  for (const std::string mode : {"world", "session"}) {
    ASSERT_NO_FATAL_FAILURE(
        record({"mpiexec.mpich", "-n", "2", kPrograms + "mpich_mpi4_program", mode}));
    EXPECT_THAT(run_.out, testing::AllOf(HasSubstr("0 of 2: 127 2"), HasSubstr("1 of 2: 127 1")));
    EXPECT_EQ(count("process WHERE rank IN (0, 1) AND world_size = 2"), 2);
    EXPECT_EQ(count("collective WHERE function = 'allreduce'"), 2);
    for (const char* counted : {"MPI_Allreduce_c 2", "MPI_Bcast_c 2", "MPI_Pready 12"}) {
      EXPECT_THAT(run_.err, HasSubstr(counted)) << mode;
    }
    EXPECT_EQ(run_.err.find("MPI_Session_init 2") != std::string::npos, mode == "session");
  }
}

TEST_F(Hosts, AnMpiLibraryThatWasOpenedPrivatelyIsFound) {
  NEEDS("mpich_module.so");
  ASSERT_NO_FATAL_FAILURE(record({"mpiexec.mpich", "-n", "1", kPrograms + "opens_program",
                                  kPrograms + "mpich_module.so", "3", "0"}));
  EXPECT_EQ(count("collective"), 3);
}

TEST_F(Hosts, SpawnedProcessesHaveNoRank) {
  ASSERT_NO_FATAL_FAILURE(record(mpirun(1, {kPrograms + "spawn_program"})));
  EXPECT_EQ(count("process WHERE rank IS NULL AND world_size IS NULL"), 1);
  EXPECT_EQ(count("process WHERE rank = 0 AND world_size = 1"), 1);
  EXPECT_EQ(count("collective WHERE function = 'allreduce'"), 2);
  EXPECT_THAT(run_.err, HasSubstr("1 process was started by MPI_Comm_spawn"));
  EXPECT_THAT(run_.err, HasSubstr("MPI_Comm_spawn 1"));
}

class Fortran : public Hosts,
                public ::testing::WithParamInterface<std::tuple<const char*, const char*>> {};

TEST_P(Fortran, IsRecordedThroughEachOfItsBindings) {
  const auto& [library, form] = GetParam();
  const std::string program = fmt::format("{}_{}", library, form);
  NEEDS(program);
  const bool mpich = std::string(library) == "mpich";
  ASSERT_NO_FATAL_FAILURE(record(mpich ? Words{"mpiexec.mpich", "-n", "2", kPrograms + program}
                                       : mpirun(2, {kPrograms + program})));
  const auto calls = [&](const char* function, int bytes, const char* type) {
    return count(fmt::format("collective WHERE function = '{}' AND bytes = {} AND dtype = '{}'",
                             function, bytes, type));
  };
  EXPECT_EQ(calls("allreduce", 512, "MPI_DOUBLE_PRECISION"), 8);
  if (std::string(form) != "module_form") return;
  EXPECT_EQ(calls("allgather", 16, "MPI_BYTE"), 8);
  EXPECT_EQ(calls("send", 512, "MPI_DOUBLE_PRECISION"), 8);
  EXPECT_EQ(calls("recv", 512, "MPI_DOUBLE_PRECISION"), 8);
}
INSTANTIATE_TEST_SUITE_P(Bindings, Fortran,
                         ::testing::Combine(::testing::Values("openmpi", "mpich"),
                                            ::testing::Values("fixed_form", "module_form",
                                                              "typed_form")),
                         [](const auto& chosen) {
                           return fmt::format("{}_{}", std::get<0>(chosen.param),
                                              std::get<1>(chosen.param));
                         });

}  // namespace
}  // namespace preserve
