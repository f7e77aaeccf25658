// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/launch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <thread>

#include "common/clock.h"
#include "common/error.h"
#include "common/output_file.h"
#include "tests/support/environment.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;

using Variables = test::Environment::Variables;

// Variables for the length of a test; all launchers' are absent otherwise.
struct Environment : test::Environment {
  explicit Environment(const Variables& variables)
      : test::Environment({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
                           "PMIX_RANK", "SLURM_STEP_NUM_TASKS"},
                          variables) {}
};

TEST(Launcher, IsRecognisedByWhatItLeftInTheEnvironment) {
  {
    const Environment none(Variables{});
    EXPECT_FALSE(find_launcher());
  }
  for (const Variables& variables :
       {Variables{{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}},
        {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}},
        {{"PMIX_RANK", "3"}, {"SLURM_STEP_NUM_TASKS", "4"}}}) {
    const Environment environment(variables);
    const auto launcher = find_launcher();
    ASSERT_TRUE(launcher) << variables.begin()->first;
    EXPECT_EQ(launcher->rank, 3);
    EXPECT_EQ(launcher->ranks, 4);
  }
}

TEST(Launcher, ThatDoesNotSayHowManyRanksIsJoinedToo) {
  const Environment environment(Variables{{"PMIX_RANK", "0"}});
  const auto launcher = find_launcher();
  ASSERT_TRUE(launcher);
  EXPECT_FALSE(launcher->ranks);
}

TEST(Launcher, TheShellOfAnInteractiveAllocationIsNone) {
  const Environment environment(Variables{{"PMIX_RANK", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}});
  EXPECT_FALSE(find_launcher());
}

TEST(Launcher, TasksThatCannotMeetAreRefused) {
  const Environment environment(Variables{{"SLURM_STEP_NUM_TASKS", "4"}});
  EXPECT_THAT([] { find_launcher(); }, test::fails_with("--mpi=pmix"));
}

class MeasurementLockTest : public testing::Test {
 protected:
  std::string lock_and_leave() {
    std::string said;
    const MeasurementLock lock([&](const std::string& text) { said = text; }, path_);
    return said;
  }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "lock";
};

TEST_F(MeasurementLockTest, TheFileIsForEverybodyAndNamesItsHolder) {
  const mode_t before = ::umask(0077);
  {
    const MeasurementLock lock([](const std::string& text) { FAIL() << text; }, path_);
    EXPECT_EQ(read_text_file(path_), fmt::format("{}\n", ::getpid()));
  }
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0666U);
  EXPECT_EQ(read_text_file(path_), "");
  EXPECT_THAT(lock_and_leave(), testing::IsEmpty());
}

TEST_F(MeasurementLockTest, WhoWaitsIsToldForWhom) {
  std::optional<MeasurementLock> first;
  first.emplace([](const std::string& text) { FAIL() << text; }, path_);
  std::promise<std::string> said;
  std::thread second([&] {
    const MeasurementLock lock([&](const std::string& text) { said.set_value(text); }, path_);
  });
  EXPECT_THAT(
      said.get_future().get(),
      testing::AllOf(HasSubstr(fmt::format("process {}", ::getpid())), HasSubstr(path_.string())));
  first.reset();
  second.join();
}

TEST_F(MeasurementLockTest, ALinkIsNotFollowedAndAPipeIsNotWaitedFor) {
  std::ofstream(directory_ / "precious") << "content";
  std::filesystem::create_symlink(directory_ / "precious", path_);
  EXPECT_THAT(lock_and_leave(), HasSubstr("cannot lock out other measurements"));
  EXPECT_EQ(read_text_file(directory_ / "precious"), "content");
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0666), 0);
  EXPECT_THAT(lock_and_leave(), HasSubstr("cannot lock out other measurements"));
}

TEST_F(MeasurementLockTest, AHardLinkIsNotWrittenTo) {
  std::ofstream(directory_ / "precious") << "content";
  std::filesystem::create_hard_link(directory_ / "precious", path_);
  EXPECT_THAT(lock_and_leave(), HasSubstr("cannot lock out other measurements"));
  EXPECT_EQ(read_text_file(directory_ / "precious"), "content");
}

// In place of mpirun stands a program of the test's own.
class RunRanks : public testing::Test {
 protected:
  void mpirun_is(const std::string& script) {
    std::ofstream(directory_ / "mpirun") << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(directory_ / "mpirun", std::filesystem::perms::owner_all);
  }
  test::TemporaryDirectory directory_;
  const test::Environment path_{{"PATH"},
                                {{"PATH", directory_.path().string() + ":" + std::getenv("PATH")}}};
};

TEST_F(RunRanks, TheExitCodeIsMpiruns) {
  mpirun_is("test \"$3\" = 5 && exit 42");
  EXPECT_EQ(run_ranks({5, false, 60'000'000'000, {}}), 42);
}

TEST_F(RunRanks, ALoneRankNeedsNoMpirun) {
  mpirun_is("exit 42");
  EXPECT_EQ(run_ranks({1, false, 60'000'000'000, {"--gtest_list_tests"}}), 0);
}

TEST_F(RunRanks, SomebodyIsToldMeanwhile) {
  const std::filesystem::path told = directory_ / "told";
  mpirun_is("until test -e " + told.string() + "; do :; done; exit 7");
  RankLaunch launch{2, false, 60'000'000'000, {}};
  int64_t spent_ns = 0;
  launch.waiting = [&](int64_t ns) {
    spent_ns = ns;
    std::ofstream(told) << "";
  };
  EXPECT_EQ(run_ranks(launch), 7);
  EXPECT_GT(spent_ns, 0);
}

TEST_F(RunRanks, HungRanksAreEndedWithASentence) {
  mpirun_is("exec sleep 60");
  const int64_t start_ns = monotonic_ns();
  EXPECT_THAT(
      [] {
        run_ranks({2, false, 1'000'000'000, {}});
      },
      test::fails_with(ErrorKind::input, HasSubstr("a rank hangs")));
  EXPECT_LT(monotonic_ns() - start_ns, 50'000'000'000);
}

TEST(Patience, IsTenTimesTheMeasurementAndAMinute) {
  EXPECT_EQ(patience_ns(15'000'000'000), 330'000'000'000);
  EXPECT_THROW(patience_ns(INT64_MAX / 2), Error);
}

}  // namespace
}  // namespace preserve
