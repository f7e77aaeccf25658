// SPDX-License-Identifier: Apache-2.0
#include "common/child_process.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/error.h"
#include "common/foreground_child.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

ChildRun shell(const std::string& script) {
  return run_child_quietly({"/bin/sh", "-c", script});
}

struct Ended {
  ChildEnd end;
  std::string out;
};
Ended wait_for(ChildSetup setup, ChildWatch watch = {}) {
  Ended ended;
  setup.pipe_output = true;
  watch.out = [&](std::string_view piece) { ended.out += piece; };
  ended.end = Child(setup).wait(watch);
  return ended;
}

constexpr int64_t kTenMs = 10'000'000;

TEST(Child, HasItsOwnVariablesAndFolder) {
  ::setenv("PRESERVE_TEST_KEPT", "kept", 1);
  ::setenv("PRESERVE_TEST_CHANGED", "before", 1);
  ChildSetup setup{{"sh", "-c", "echo $PRESERVE_TEST_KEPT $PRESERVE_TEST_CHANGED; pwd"}};
  setup.environment = {"PRESERVE_TEST_CHANGED=after"};
  setup.folder = "/";
  EXPECT_EQ(wait_for(setup).out, "kept after\n/\n");
  EXPECT_STREQ(::getenv("PRESERVE_TEST_CHANGED"), "before");
  ::unsetenv("PRESERVE_TEST_KEPT");
  ::unsetenv("PRESERVE_TEST_CHANGED");
}

TEST(Child, ThatCannotStartNamesTheReason) {
  Child missing({{"/no/such/program"}});
  EXPECT_EQ(missing.exec_error(), ENOENT);
  EXPECT_EQ(missing.wait().exit_code, 127);
  Child folder({{"/tmp"}});
  EXPECT_EQ(folder.exec_error(), EACCES);
  EXPECT_EQ(folder.wait().exit_code, 126);
  EXPECT_EQ(Child({{"true"}}).exec_error(), 0);
}

// A program with this loader; none when it is empty.
std::string program_with(const std::string& loader) {
  Elf64_Ehdr head{};
  std::memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_phentsize = sizeof(Elf64_Phdr);
  head.e_phoff = sizeof(head);
  head.e_phnum = 2;
  Elf64_Phdr parts[2]{};
  parts[1].p_type = loader.empty() ? PT_LOAD : PT_INTERP;
  parts[1].p_offset = sizeof(head) + sizeof(parts);
  parts[1].p_filesz = loader.size() + 1;
  return std::string(reinterpret_cast<char*>(&head), sizeof(head)) +
         std::string(reinterpret_cast<char*>(parts), sizeof(parts)) + loader + '\0';
}

TEST(Child, HowLibrariesGetIntoAProgram) {
  const test::TemporaryDirectory folder;
  const std::string path = (folder / "program").string();
  const auto of = [&path](const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
    return loading_of(path);
  };
  EXPECT_EQ(of(program_with("/lib64/ld-linux-x86-64.so.2")), Loading::ours);
  EXPECT_EQ(of(program_with("/lib/ld-musl-x86_64.so.1")), Loading::other_library);
  EXPECT_EQ(of(program_with("")), Loading::none);
  EXPECT_EQ(of("#!/bin/sh\n"), Loading::ours);
  EXPECT_EQ(of(program_with("/lib/ld-musl-x86_64.so.1").substr(0, 70)), Loading::ours);
  EXPECT_EQ(loading_of("/no/such/program"), Loading::ours);
}

TEST(Child, WhatIsPreloadedAlreadyStays) {
  ::setenv("LD_PRELOAD", "", 1);
  ::setenv("ASAN_OPTIONS", "verify_asan_link_order=1", 1);
  using testing::Pair;
  EXPECT_THAT(preloading("/ours.so"),
              testing::ElementsAre(
                  Pair("LD_PRELOAD", "/ours.so"),
                  Pair("ASAN_OPTIONS", "verify_asan_link_order=0:verify_asan_link_order=1")));
  ::unsetenv("ASAN_OPTIONS");
  ::unsetenv("LD_PRELOAD");
}

TEST(Child, AFunctionCanTakeThePlaceOfAProgram) {
  ChildSetup setup;
  setup.body = [] { (void)!::write(STDOUT_FILENO, "here", 4); };
  const Ended ended = wait_for(setup);
  EXPECT_EQ(ended.out, "here");
  EXPECT_EQ(ended.end.exit_code, 0);
}

TEST(Child, SignalsSentToUsAreForwarded) {
  ChildSetup setup{{"sh", "-c", "trap 'echo usr1; exit 3' USR1; echo ready; while :; do :; done"}};
  setup.forwarded = {SIGUSR1};
  setup.pipe_output = true;
  std::string out;
  ChildWatch watch;
  watch.out = [&](std::string_view piece) {
    out += piece;
    if (out == "ready\n") ::raise(SIGUSR1);
  };
  const ChildEnd end = Child(setup).wait(watch);
  ::signal(SIGUSR1, SIG_DFL);
  EXPECT_EQ(out, "ready\nusr1\n");
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_FALSE(end.interrupted);
}

TEST(Child, WhatWasIgnoredStaysIgnored) {
  ::signal(SIGHUP, SIG_IGN);
  ChildSetup setup{{"sh", "-c", "kill -HUP $$; echo alive"}};
  setup.forwarded = {SIGHUP};
  {
    const StopSignals stop;
    EXPECT_EQ(wait_for(setup).out, "alive\n");
    ::raise(SIGHUP);
    EXPECT_EQ(StopSignals::received(), 0);
  }
  ::signal(SIGHUP, SIG_DFL);
}

TEST(Child, IsEndedWithItsWholeGroupWhenTheTimeIsOver) {
  const Ended ended =  // the sleeping one holds the pipe open
      wait_for({.argv = {"sh", "-c", "sleep 1000 & echo started; wait"}, .own_group = true},
               {.time_limit_ns = 10 * kTenMs, .limit_signal = SIGKILL});
  EXPECT_TRUE(ended.end.timed_out);
  EXPECT_EQ(ended.end.exit_code, 128 + SIGKILL);
}

TEST(Child, OfAGroupIsWaitedForWithAllThatPrint) {
  ChildSetup setup{{"sh", "-c", "(sleep 0.1; echo late) &"}};
  setup.own_group = true;
  EXPECT_EQ(wait_for(setup).out, "late\n");
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
  ::signal(SIGINT, SIG_DFL);  // a background shell ignores it
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
  EXPECT_THAT([] { sibling_tool("preserve-no-such-tool"); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("preserve-no-such-tool")));
}

}  // namespace
}  // namespace preserve
