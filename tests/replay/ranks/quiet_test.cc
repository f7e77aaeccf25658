// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/quiet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace preserve {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ProcessStat, NameMayHoldAnything) {
  std::string name;
  int64_t ticks = 0;
  EXPECT_TRUE(parse_process_stat("7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 30 12 0 0", name, ticks));
  EXPECT_EQ(name, "a) b (c");
  EXPECT_EQ(ticks, 42);
}

TEST(ProcessStat, WhatIsNoneIsRefused) {
  std::string name;
  int64_t ticks = 0;
  for (const char* line : {"", "7 a R 1", "7 )a( R 1 2 3 4 5 6 7 8 9 10 30 12", "7 (a) R 1 2 3",
                           "7 (a) R 1 2 3 4 5 6 7 8 9 10 x y"}) {
    EXPECT_FALSE(parse_process_stat(line, name, ticks)) << line;
  }
}

TEST(HostLoadTest, ASpinningProcessIsFoundAndNamed) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Those of this name are taken for ranks of the same measurement.
    if (FILE* file = std::fopen("/proc/self/comm", "w")) {
      std::fputs("spinner", file);
      std::fclose(file);
    }
    for (;;) asm volatile("");
  }
  // A very busy machine gives it little at first.
  HostLoad load;
  auto one = load.processes.end();
  for (int look = 0; look < 100 && one == load.processes.end(); ++look) {
    load = look_at_load(200'000'000);
    one = std::find_if(load.processes.begin(), load.processes.end(),
                       [&](const BusyProcess& process) { return process.pid == child; });
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_NE(one, load.processes.end());
  EXPECT_EQ(one->name, "spinner");
  EXPECT_GE(load.cores, one->cores);
}

TEST(HostLoadTest, SpareCoresMayBeUsedByOthers) {
  HostLoad load;
  load.cores = 2;
  EXPECT_TRUE(is_quiet(load, 6, 8));
  EXPECT_FALSE(is_quiet(load, 7, 8));
  EXPECT_FALSE(is_quiet(load, 16, 8));  // oversubscribed: no core is spare
  load.cores = 0;
  load.stolen_cores = 1;
  EXPECT_FALSE(is_quiet(load, 1, 8));
}

TEST(HostLoadTest, TheBusiestAreNamedAndTheirNamesAreHarmless) {
  HostLoad load;
  load.cores = 4;
  load.processes = {{1, "\x1b[31mred", 2}, {2, "b", 1}, {3, "c", 0.5}, {4, "d", 0.5}};
  const std::string text = describe(load);
  EXPECT_THAT(text, HasSubstr("process 2 (b) uses 1.0 cores"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("(d)")));
}

}  // namespace
}  // namespace preserve
