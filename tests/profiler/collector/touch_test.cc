// SPDX-License-Identifier: Apache-2.0
// preserve-profile --touch: what it finds out, and that programs do not notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/profiler/collector/recording.h"

namespace preserve::test {
namespace {

using ::testing::HasSubstr;

const std::string kTouchProgram = PRESERVE_PROGRAM_DIR "/touch_program";

TEST(Touch, FindsWhichAllocationsAreReadAfterWhichCall) {
  const Recorded recording(mpirun(2, {kTouchProgram, "steps"}), {"--touch"});
  EXPECT_THAT(recording.run.err, HasSubstr("--touch cost"));
  EXPECT_EQ(recording.list("SELECT DISTINCT value, role, source FROM tensor JOIN string ON "
                           "string.id = name_id WHERE role = 'weight' ORDER BY value"),
            "allocation.1048576.0 weight allocation,allocation.2097152.0 weight allocation");
  // Read in turn: no interval has both.
  EXPECT_EQ(recording.count("(SELECT op_id FROM access JOIN tensor ON tensor.id = tensor_id WHERE "
                            "role = 'weight' GROUP BY op_id HAVING COUNT(*) > 1)"),
            0);
  EXPECT_GT(
      recording.count("access JOIN tensor ON tensor.id = tensor_id WHERE access.bytes = 2097152 "
                      "AND tensor.bytes = 2097152 AND mode = 'read' AND access.source = 'touch'"),
      50);
  EXPECT_GT(recording.count("access WHERE mode = 'write'"), 50);
  EXPECT_GT(recording.count("access WHERE confidence = 0.9"), 0)
      << "some intervals look more closely";
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

class Unnoticed : public testing::TestWithParam<const char*> {};

TEST_P(Unnoticed, ByTheProgram) {
  const std::string part = GetParam();
  const std::vector<std::string> command = mpirun(2, {kTouchProgram, part});
  const Recorded recording(command, {"--touch"});
  EXPECT_THAT(recording.run.err, Not(HasSubstr("wrong:")));
  EXPECT_THAT(recording.run.err, Not(HasSubstr("errno")))
      << "Open MPI says when the memory of a peer cannot be read";
  EXPECT_EQ(recording.run.out, run_program(command, kAllowRoot).out);
}

INSTANTIATE_TEST_SUITE_P(Touch, Unnoticed,
                         testing::Values("steps", "kernel", "signals", "release", "peers",
                                         "threads"),
                         [](const auto& part) { return std::string(part.param); });

TEST(Touch, LeavesAProgramItsCrash) {
  const Recording recording({kTouchProgram, "crash"}, {"--touch"});
  EXPECT_EQ(recording.run.exit_code, 128 + 11) << recording.run.err;
}

}  // namespace
}  // namespace preserve::test
