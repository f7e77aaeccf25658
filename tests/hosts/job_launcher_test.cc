// SPDX-License-Identifier: Apache-2.0
#include "common/job_launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/environment.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<std::pair<std::string, std::string>> kVariables{{"LD_PRELOAD", "/ours.so"},
                                                                  {"PRESERVE_MPI", "1"}};

class NamedHosts : public testing::Test {
  // Without what the batch system says of the machine that tests.
  const test::Environment environment_{{"OMPI_MCA_orte_default_hostfile",
                                        "PRTE_MCA_prte_default_hostfile", "HYDRA_HOST_FILE",
                                        "PBS_NODEFILE", "PE_HOSTFILE", "SLURM_JOB_NUM_NODES"}};
};

TEST(JobLauncher, OpenMpiPassesOnToEachProgram) {
  EXPECT_THAT(passing_on({"mpirun", "-n", "2", "a", ":", "-n", "1", "b"}, JobLauncher::open_mpi,
                         kVariables),
              ElementsAre("mpirun", "-x", "LD_PRELOAD", "-x", "PRESERVE_MPI", "-n", "2", "a", ":",
                          "-x", "LD_PRELOAD", "-x", "PRESERVE_MPI", "-n", "1", "b"));
}

TEST(JobLauncher, WhatTheCommandPreloadsStaysBehindOurs) {
  EXPECT_THAT(
      passing_on({"mpirun", "-x", "LD_PRELOAD=/theirs.so", "a"}, JobLauncher::open_mpi, kVariables),
      ElementsAre("mpirun", "-x", "PRESERVE_MPI", "-x", "LD_PRELOAD=/ours.so:/theirs.so", "a"));
  EXPECT_THAT(passing_on({"mpiexec", "-genv", "LD_PRELOAD", "/theirs.so", "a"}, JobLauncher::hydra,
                         kVariables),
              ElementsAre("mpiexec", "-genv", "PRESERVE_MPI", "1", "-genv", "LD_PRELOAD",
                          "/ours.so:/theirs.so", "a"));
}

TEST(JobLauncher, HydraIsToldTheValues) {
  EXPECT_THAT(passing_on({"mpiexec", "-envnone", "a"}, JobLauncher::hydra, kVariables),
              ElementsAre("mpiexec", "-genv", "LD_PRELOAD", "/ours.so", "-genv", "PRESERVE_MPI",
                          "1", "-envnone", "a"));
}

TEST(JobLauncher, SlurmPassesEverythingOnUnlessItWasToldOtherwise) {
  const auto given = [](const std::string& option) {
    return passing_on({"srun", option, "a"}, JobLauncher::slurm, kVariables)[1];
  };
  EXPECT_EQ(given("--export=ALL,A=1"), "--export=ALL,A=1");
  EXPECT_EQ(given("--export=PATH"), "--export=PATH,LD_PRELOAD,PRESERVE_MPI");
  EXPECT_EQ(given("--export=NONE"), "--export=LD_PRELOAD,PRESERVE_MPI");
  EXPECT_EQ(given("-N2"), "-N2");
  EXPECT_EQ(given("--export=INSTALL_DIR"), "--export=INSTALL_DIR,LD_PRELOAD,PRESERVE_MPI")
      << "no ALL among its words";
  EXPECT_EQ(given("--export=ALL,LD_PRELOAD=/theirs.so"),
            "--export=ALL,LD_PRELOAD=/ours.so:/theirs.so");
  EXPECT_THAT(passing_on({"srun", "--export", "NONE", "/bin/true"}, JobLauncher::slurm, kVariables),
              ElementsAre("srun", "--export", "LD_PRELOAD,PRESERVE_MPI", "/bin/true"));
  EXPECT_THAT(passing_on({"srun", "/bin/true", "--export=A"}, JobLauncher::slurm, kVariables),
              ElementsAre("srun", "/bin/true", "--export=A"))
      << "the program's own";
}

TEST_F(NamedHosts, OfTheProgramsOwnWordsNone) {
  const test::TemporaryDirectory folder;
  const std::string file = (folder / "config").string();
  std::ofstream(file) << "a\nb\n";
  EXPECT_THAT(named_hosts({"mpirun", "-n", "2", "/bin/true", "-f", file}), IsEmpty());
  EXPECT_THAT(named_hosts({"mpirun", "--oversubscribe", "/bin/true", "-H", "a,b"}), IsEmpty());
  EXPECT_THAT(named_hosts({"mpirun", "-f", file, "/bin/true"}), ElementsAre("a", "b"));
  EXPECT_THAT(named_hosts({"mpirun", "-f", "/dev/zero", "/bin/true"}), IsEmpty());
}

TEST(JobLauncher, IsNoneOfAnotherProgram) {
  EXPECT_EQ(job_launcher("/bin/sh"), JobLauncher::none);
  EXPECT_EQ(job_launcher("/nowhere/mpirunner"), JobLauncher::none);
  EXPECT_THAT(passing_on({"a", ":"}, JobLauncher::none, kVariables), ElementsAre("a", ":"));
}

TEST_F(NamedHosts, AreThoseOfOptionsAndFiles) {
  const test::TemporaryDirectory folder;
  const std::string file = (folder / "hosts").string();
  std::ofstream(file) << "a slots=4  # the first\n\n#none\nb:2\na\n";
  EXPECT_THAT(named_hosts({"mpirun", "--hostfile", file, "x"}), ElementsAre("a", "b"));
  EXPECT_THAT(named_hosts({"mpiexec", "-hosts", "c:1,d", "-f", file, "x"}),
              ElementsAre("c", "d", "a", "b"));
  EXPECT_THAT(named_hosts({"mpirun", "--hostfile", "/nowhere", "x"}), IsEmpty());
  EXPECT_THAT(named_hosts({}), IsEmpty());
}

TEST_F(NamedHosts, AreThoseOfTheBatchSystemWhereTheCommandNamesNone) {
  const test::TemporaryDirectory folder;
  const std::string file = (folder / "hosts").string();
  std::ofstream(file) << "a\na\nb\n";
  ::setenv("PBS_NODEFILE", file.c_str(), 1);
  EXPECT_THAT(named_hosts({"mpirun", "x"}), ElementsAre("a", "b"));
  EXPECT_THAT(named_hosts({"mpirun", "-H", "c", "x"}), ElementsAre("c"));
  EXPECT_TRUE(on_several_hosts(JobLauncher::open_mpi, {"mpirun", "x"}));
  EXPECT_FALSE(on_several_hosts(JobLauncher::open_mpi, {"mpirun", "-H", "c", "x"}));
  EXPECT_FALSE(on_several_hosts(JobLauncher::none, {"x"})) << "it starts no ranks";
  ::unsetenv("PBS_NODEFILE");
  EXPECT_FALSE(on_several_hosts(JobLauncher::open_mpi, {"mpirun", "x"}));
  ::setenv("SLURM_JOB_NUM_NODES", "2", 1);
  EXPECT_TRUE(on_several_hosts(JobLauncher::open_mpi, {"mpirun", "x"}));
  ::unsetenv("SLURM_JOB_NUM_NODES");
}

}  // namespace
}  // namespace preserve
