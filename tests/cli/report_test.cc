// SPDX-License-Identifier: Apache-2.0
// preserve-report from the outside: streams, formats, exit codes, messages, nothing half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_grid.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class PreserveReport : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<test::TemporaryDirectory>();
    test::write_two_scenarios(shared_->path());
  }
  static void TearDownTestSuite() { shared_.reset(); }
  void SetUp() override { fs::copy(shared_->path(), directory_.path()); }

  test::Run report(const test::Words& arguments) const {
    return test::run_program(test::words(PRESERVE_BIN_DIR "/preserve-report", arguments), {},
                             directory_.path());
  }
  std::string text(const char* name) const { return read_text_file(directory_ / name); }
  nlohmann::json json(const char* name) const { return nlohmann::json::parse(text(name)); }
  test::Words names() const { return test::names_in(directory_.path()); }

  test::TemporaryDirectory directory_;
  static inline std::unique_ptr<test::TemporaryDirectory> shared_;
};

test::Words all_and(const test::Words& more) {
  return test::words("trace.db", "schedule.json", "replay.db", "schedule-link.json",
                     "replay-link.db", more);
}

TEST_F(PreserveReport, WritesTheTableThatTheNameSays) {
  const test::Run run = succeeded(
      report(all_and({"-q", "-o", "r.arms.csv", "-o", "r.windows.csv", "-o", "my.run.csv"})));
  EXPECT_THAT(text("r.arms.csv"), StartsWith("scenario,arm,samples,"));
  EXPECT_THAT(text("r.windows.csv"), StartsWith("scenario,ordinal,window"));
  EXPECT_THAT(text("my.run.csv"), StartsWith("scenario,ordinal,operator"));
}

TEST_F(PreserveReport, ComparesWithAnEarlierRun) {
  ASSERT_EQ(report(all_and({"-q", "-o", "before.json"})).exit_code, 0);
  const test::Run run = succeeded(
      report(all_and({"-q", "--baseline", "before.json", "-o", "r.json", "-o", "r.html"})));
  const auto found = json("r.json");
  EXPECT_EQ(found.at("earlier").at(0).at("step"), "undecided");
  EXPECT_THAT(text("r.html"), HasSubstr("Against an earlier run"));
  EXPECT_EQ(report(all_and({"--baseline", "schedule.json", "-o", "x.html"})).exit_code, 2);
  EXPECT_EQ(report(all_and({"--baseline", "before.json", "-f", "-o", "before.json"})).exit_code, 2);
  EXPECT_FALSE(fs::exists(directory_ / "x.html"));
}

TEST_F(PreserveReport, ComparesRecordings) {
  test::write_synthetic_trace(directory_ / "before.db", {.layers = 1});
  test::write_synthetic_trace(directory_ / "third.db", {.layers = 3});
  EXPECT_THAT(succeeded(report({"before.db", "third.db", "trace.db", "schedule.json", "replay.db",
                                "-o", "r.json", "-o", "r.html", "-o", "r.md"}))
                  .out,
              AllOf(HasSubstr("Against before.db: the recorded step is slower"),
                    HasSubstr("Against third.db: the recorded step is faster")));
  const auto found = json("r.json");
  EXPECT_EQ(found.at("earlier").size(), 2U);
  EXPECT_EQ(found.at("inputs").at(0).at("path"), "trace.db") << "the last one named";
  EXPECT_THAT(text("r.html"), HasSubstr("Runs side by side"));
  // --baseline is the same, and schedules find their recording wherever it stands.
  EXPECT_EQ(report({"trace.db", "--baseline", "before.db", "-o", "b.json"}).exit_code, 0);
  EXPECT_EQ(report({"trace.db", "schedule.json", "before.db", "-o", "c.json"}).exit_code, 0);
  fs::copy(directory_ / "before.db", directory_ / "copy.db");
  EXPECT_THAT(report({"before.db", "copy.db", "-o", "x.html"}).err,
              HasSubstr("the same recording"));
}

TEST_F(PreserveReport, WritesEveryFormatAndPrintsTheVerdicts) {
  const test::Run run =
      succeeded(report(all_and({"-o", "r.html", "-o", "r.json", "-o", "r.md", "-o", "r.csv"})));
  EXPECT_THAT(run.out, AllOf(StartsWith("Measured:"), HasSubstr("with real collectives"),
                             HasSubstr("with a 200 us stand-in link: FAST.\n")));
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("lost: 3 records of nvtx"), EndsWith("next: xdg-open r.html\n")));
  EXPECT_THAT(text("r.html"), StartsWith("<!DOCTYPE html>"));
  EXPECT_EQ(json("r.json").at("schema"), "preserve/report");
  EXPECT_THAT(text("r.md"), StartsWith("### Preserve report"));
  EXPECT_THAT(text("r.csv"), StartsWith("scenario,ordinal,"));
}

TEST_F(PreserveReport, IsTheSameEveryTime) {
  ASSERT_EQ(report(all_and({"-o", "a.html", "-o", "a.json"})).exit_code, 0);
  ASSERT_EQ(report(all_and({"-o", "b.html", "-o", "b.json"})).exit_code, 0);
  EXPECT_EQ(text("a.html"), text("b.html"));
  EXPECT_EQ(text("a.json"), text("b.json"));
}

TEST_F(PreserveReport, DefaultsToReportHtml) {
  EXPECT_EQ(report({"trace.db"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(directory_ / "report.html"));
}

TEST_F(PreserveReport, PipesOneFormatCleanly) {
  const test::Run run = succeeded(report(all_and({"--format", "json", "-o", "-"})));
  EXPECT_TRUE(nlohmann::json::accept(run.out));
  EXPECT_THAT(report(all_and({"-o", "-"})).err, HasSubstr("-o - needs --format"));
}

TEST_F(PreserveReport, PrintsOnlyVerdictsWhenAsked) {
  const std::vector<std::string> before = names();
  const test::Run run = succeeded(report(all_and({"--verdict", "-q"})));
  EXPECT_THAT(run.err, "");
  EXPECT_EQ(std::count(run.out.begin(), run.out.end(), '\n'), 2);
  EXPECT_EQ(names(), before);
}

TEST_F(PreserveReport, NamesTheNextStage) {
  EXPECT_THAT(
      report({"trace.db"}).err,
      HasSubstr(
          "next: preserve-calibrate --ranks 2 -o device.json && preserve-tune trace.db --device "
          "device.json"));
  EXPECT_THAT(report({"trace.db", "schedule.json", "-f"}).err,
              EndsWith("next: preserve-replay trace.db schedule.json -o replay.db\n"));
}

TEST_F(PreserveReport, KeepsExistingFilesWithoutForce) {
  OutputFile(directory_ / "r.html", false).write("mine");
  EXPECT_THAT(report(all_and({"-o", "r.html"})),
              test::exits(2, AllOf(HasSubstr("r.html exists already"), HasSubstr("-f"))));
  EXPECT_EQ(text("r.html"), "mine");
  EXPECT_EQ(report(all_and({"-o", "r.html", "-f"})).exit_code, 0);
  EXPECT_NE(text("r.html"), "mine");
}

TEST_F(PreserveReport, ChecksEveryOutputBeforeAnyWork) {
  const std::vector<std::string> before = names();
  const auto fails_with = [&](const test::Words& more, const char* message) {
    EXPECT_THAT(report(all_and(more)), test::exits(2, HasSubstr(message))) << message;
    EXPECT_EQ(names(), before) << "nothing half-written";
  };
  fails_with({"-o", "ok.html", "-o", "missing/r.html"}, "cannot write missing/r.html");
  fails_with({"-o", "ok.html", "-o", "r.pdf"}, "says no format");
  fails_with({"-o", "r.html", "-o", "./r.html"}, "given twice as output");
  fails_with({"-f", "-o", "trace.db", "--format", "html"}, "is an input");
}

TEST_F(PreserveReport, RefusesFilesThatDoNotBelongTogether) {
  test::write_synthetic_trace(directory_ / "other.db", {.layers = 3});
  const test::Run schedule = report({"other.db", "schedule.json", "-o", "r.html"});
  EXPECT_THAT(schedule, test::exits(2, HasSubstr("planned from another recording")));
  EXPECT_THAT(report({"trace.db", "schedule.json", "replay-link.db", "-o", "r.html"}),
              test::exits(2, HasSubstr("which was not given")));
  EXPECT_FALSE(fs::exists(directory_ / "r.html"));
}

TEST_F(PreserveReport, RefusesDamagedFiles) {
  fs::resize_file(directory_ / "replay.db", 5000);
  EXPECT_THAT(report({"trace.db", "schedule.json", "replay.db", "-o", "r.html"}),
              test::exits(2, HasSubstr("replay.db")));
  OutputFile(directory_ / "schedule.json", true)
      .write("{\"schema\": \"preserve/schedule\", \"version\": \"2.0\"}");
  EXPECT_THAT(report({"trace.db", "schedule.json", "-o", "r.html"}),
              test::exits(2, AllOf(HasSubstr("schedule.json"), HasSubstr("2.0"))));
}

TEST_F(PreserveReport, FailsTheCheckThatWasAskedForOnly) {
  EXPECT_EQ(report(all_and({"--verdict", "--fail-if", "slower=5%"})).exit_code, 0);
  test::write_replay(directory_ / "replay.db", directory_ / "schedule.json",
                     {.prefetch_speedup = 0.9});
  EXPECT_EQ(report(all_and({"--verdict"})).exit_code, 0);
  EXPECT_THAT(report(all_and({"-o", "r.md", "--fail-if", "slower=5%"})),
              test::exits(1, HasSubstr("check failed: slower than 5 %")));
  EXPECT_TRUE(fs::exists(directory_ / "r.md")) << "the report explains the failure";
  EXPECT_EQ(report(all_and({"--verdict", "--fail-if", "slower=20%"})).exit_code, 0);
}

TEST_F(PreserveReport, RefusesConditionsThatCannotBeChecked) {
  for (const char* condition : {"slower", "slower=", "slower=%", "slower=x%", "slower=-1%",
                                "slower=5", "slower=nan%", "faster=5%"}) {
    EXPECT_THAT(report(all_and({"--verdict", "--fail-if", condition})),
                test::exits(2, HasSubstr("invalid --fail-if")))
        << condition;
  }
  EXPECT_THAT(report({"trace.db", "-o", "r.html", "--fail-if", "slower=5%"}),
              test::exits(2, HasSubstr("needs a measurement")));
  EXPECT_FALSE(fs::exists(directory_ / "r.html"));
}

TEST_F(PreserveReport, OfAGridStandsAlone) {
  test::write_synthetic_grid(directory_ / "grid.db");
  const test::Run run =
      succeeded(report({"grid.db", "-o", "g.html", "-o", "g.json", "-o", "g.md", "-o", "g.csv"}));
  EXPECT_THAT(run.out, StartsWith("Measured on NVIDIA H100"));
  EXPECT_THAT(run.err, AllOf(HasSubstr("warning: 1 cell failed"), EndsWith("xdg-open g.html\n")));
  EXPECT_EQ(json("g.json").at("schema"), "preserve/grid-report");
  EXPECT_THAT(report({"grid.db", "-o", "a page.html"}).err, EndsWith("xdg-open 'a page.html'\n"));
  EXPECT_THAT(report({"grid.db", "--format", "csv", "-o", "-"}).out, StartsWith("model,dtype,"));
  EXPECT_THAT(report({"grid.db", "trace.db", "-o", "m.html"}),
              test::exits(2, HasSubstr("does not belong to it")));
  EXPECT_EQ(report({"grid.db", "--verdict", "--fail-if", "slower=5%"}).exit_code, 0);
  EXPECT_THAT(
      report({"grid.db", "--verdict", "--fail-if", "slower=1%"}),
      test::exits(1, HasSubstr("check failed: slower than 1 %: llama3-8b fp16 tp4 batch 64")));
}

TEST_F(PreserveReport, RefusesADamagedGrid) {
  test::write_synthetic_grid(directory_ / "grid.db", test::synthetic_cells(), [](TraceDb& db) {
    db.execute("UPDATE cell SET chosen_speedup = 1.5 WHERE id = 1");
  });
  EXPECT_THAT(report({"grid.db", "-o", "g.html"}),
              test::exits(2, HasSubstr("grid.db: is damaged")));
  EXPECT_FALSE(fs::exists(directory_ / "g.html"));
}

TEST_F(PreserveReport, ExplainsItself) {
  EXPECT_THAT(succeeded(report({"--help"})).out,
              AllOf(HasSubstr("Examples:"), HasSubstr("Exit codes:"), HasSubstr("--fail-if")));
  EXPECT_THAT(report({"--version"}).out, StartsWith("preserve-report "));
  const test::Run bare = report({});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_EQ(bare.out, "");
}

}  // namespace
}  // namespace preserve
