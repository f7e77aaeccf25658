// SPDX-License-Identifier: Apache-2.0
#include "db/next_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

std::string next_of(const test::SyntheticTrace& spec, const char* key, const char* value) {
  return next_command(test::synthetic_trace(spec, [&](TraceDb& db) { db.set_meta(key, value); }),
                      "NAME");
}

TEST(NextStage, QuotesNamesForTheShell) {
  const TraceDb replay = test::synthetic_trace({}, [](TraceDb& db) {
    db.set_meta("kind", "replay");
    db.set_meta("trace_path", "x;reboot");
  });
  EXPECT_EQ(next_command(replay, "my replay.db"),
            "preserve-report 'x;reboot' schedule.json 'my replay.db' -o report.html");
}

TEST(NextStage, FollowsFromWhatIsInTheFile) {
  EXPECT_THAT(next_of({}, "note", ""), testing::HasSubstr("preserve-tune NAME --device "));
  EXPECT_EQ(next_of({}, "counters", "dram"), "preserve-report NAME -o report.html");
  EXPECT_EQ(next_of({}, "kind", "grid"), "preserve-report NAME -o grid.html");
  EXPECT_EQ(next_of({}, "kind", "replay"),
            "preserve-report trace.db schedule.json NAME -o report.html");
  EXPECT_EQ(next_of({.layers = 1, .steps = 1, .annotate_steps = false}, "note", ""),
            "preserve-report NAME -o report.html");
}

}  // namespace
}  // namespace preserve
