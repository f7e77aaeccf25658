// SPDX-License-Identifier: Apache-2.0
#include "common/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "common/error.h"

namespace preserve {
namespace {

ChildRun shell(const std::string& script) {
  return run_child_quietly({"/bin/sh", "-c", script});
}

TEST(ChildProcess, KeepsWhatIsSaidAndHowItEnded) {
  const ChildRun run = shell("echo result; echo message >&2; exit 7");
  EXPECT_EQ(run.exit_code, 7);
  EXPECT_EQ(run.out, "result\n");
  EXPECT_EQ(run.err, "message\n");
  EXPECT_EQ(shell("kill -KILL $$").exit_code, 128 + SIGKILL);
  EXPECT_EQ(run_child_quietly({"/no/such/program"}).exit_code, 127);
}

TEST(ChildProcess, ItsMessagesCanBeHeardAsTheyCome) {
  std::string heard;
  const ChildRun run =
      run_child_quietly({"/bin/sh", "-c", "echo result; echo one >&2; echo two >&2"}, {},
                        [&](std::string_view text) { heard += text; });
  EXPECT_EQ(heard, "one\ntwo\n");
  EXPECT_EQ(run.err, heard);
}

TEST(ChildProcess, KeepsTheEndOfALongStory) {
  const ChildRun run = shell("head -c 3000000 /dev/zero | tr '\\0' x; echo end");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_LE(run.out.size(), 64U << 10);
  EXPECT_THAT(run.out, testing::EndsWith("xend\n"));
}

TEST(ChildProcess, ReadsNothingFromOurInput) {
  EXPECT_EQ(shell("cat").exit_code, 0);
}

TEST(ChildProcess, AGrandchildThatStaysDoesNotHoldUsUp) {
  const ChildRun run = shell("sleep 1000 & echo $!");
  EXPECT_EQ(run.exit_code, 0);
  ::kill(std::stoi(run.out), SIGKILL);
}

TEST(ChildProcess, AStopSignalEndsTheChildAndNotUs) {
  const StopSignals stop;
  EXPECT_EQ(StopSignals::received(), 0);
  ::raise(SIGINT);
  EXPECT_EQ(StopSignals::received(), SIGINT);
  EXPECT_EQ(shell("exec sleep 1000").exit_code, 128 + SIGTERM);
}

TEST(ChildProcess, TheReasonIsTheLastError) {
  ChildRun run;
  run.err = "warning: a\npreserve-x: error: first\npreserve-x: error: too big:\nreally\n";
  EXPECT_EQ(last_error(run), "too big: really");
  run.err = "noise\nSegmentation fault\n";
  EXPECT_EQ(last_error(run), "Segmentation fault");
  run.err = "";
  EXPECT_EQ(last_error(run), "");
}

TEST(ChildProcess, AMissingSiblingIsNamed) {
  try {
    sibling_tool("preserve-no-such-tool");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("preserve-no-such-tool is not there"));
  }
}

}  // namespace
}  // namespace preserve
