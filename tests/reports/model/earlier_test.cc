// SPDX-License-Identifier: Apache-2.0
// This run against an earlier one.
#include "reports/model/earlier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "reports/render.h"
#include "tests/reports/two_scenarios.h"
#include "tests/support/errors.h"

namespace preserve::report {
namespace {

using test::fails_with;
using ::testing::HasSubstr;

class EarlierRun : public TwoScenarios {
 protected:
  void SetUp() override {
    now_ = report_of(paths);
    before_ = nlohmann::json::parse(to_json(now_));
  }
  Earlier compare() {
    OutputFile(directory / "before.json", true).write(before_.dump());
    return compare_with(directory / "before.json", now_);
  }

  Report now_;
  nlohmann::json before_;
};

TEST_F(EarlierRun, OfTheSameRunChangedNothing) {
  const Earlier earlier = compare();
  EXPECT_EQ(earlier.step_word, "undecided");
  EXPECT_EQ(earlier.step_ns.difference(), 0);
  ASSERT_EQ(earlier.speedups.size(), 2U);
  EXPECT_EQ(earlier.speedups[1].word, "undecided");
  ASSERT_FALSE(earlier.operators.empty());
  EXPECT_EQ(earlier.operators[0].dur_ns.difference(), 0);
  EXPECT_TRUE(earlier.windows.empty());
}

TEST_F(EarlierRun, ThatWasFasterAndPlannedOtherwise) {
  auto& step = before_.at("step");
  step["wall_ns"] = step.at("wall_ns").get<int64_t>() / 2;
  for (auto& op : step.at("operators")) {
    if (op.at("name") == "lm_head") op["name"] = "head", op["dur_ns"] = 7;
  }
  auto& link = before_.at("scenarios").at(1);
  link.at("measured")["speedup"] = {{"low", 1.0}, {"estimate", 1.01}, {"high", 1.02}};
  link.at("plan").at("windows").at(0)["predicted_saved_ns"] = 1;
  const Earlier earlier = compare();
  EXPECT_EQ(earlier.step_word, "slower");
  EXPECT_EQ(earlier.speedups[1].word, "higher");
  ASSERT_EQ(earlier.windows.size(), 1U);
  EXPECT_EQ(earlier.windows[0].predicted_saved_ns.before, 1);
  EXPECT_EQ(earlier.operators[0].name, "lm_head") << "the largest difference";
  EXPECT_FALSE(earlier.operators[0].dur_ns.before);
  now_.earlier = {earlier};
  const auto json = nlohmann::json::parse(to_json(now_));
  EXPECT_EQ(schema_errors(to_json(now_)), "");
  EXPECT_EQ(json.at("earlier").at(0).at("step"), "slower");
  EXPECT_THAT(earlier.sentence, HasSubstr("slower"));
  EXPECT_THAT(earlier.sentence, HasSubstr("lm_head")) << "the largest change";
  EXPECT_THAT(to_html(now_), HasSubstr("Against an earlier run"));
  for (const Format format : {Format::html, Format::md}) {
    EXPECT_THAT(render(now_, format), HasSubstr("before.json"));
  }
}

TEST_F(EarlierRun, AsARecordingSaysWhatItsReportSays) {
  const Earlier from_json = compare(), from_files = compare_with(now_, now_);
  EXPECT_EQ(from_files.step_ns.before, from_json.step_ns.before);
  EXPECT_EQ(from_files.operators.size(), from_json.operators.size());
  EXPECT_EQ(from_files.speedups.size(), from_json.speedups.size());
  EXPECT_TRUE(from_files.differences.empty());
  EXPECT_TRUE(from_json.differences.empty());
  Report elsewhere = now_;
  elsewhere.recording.ranks = 4;
  elsewhere.recording.machines[0].device = "Other processor";
  EXPECT_THAT(compare_with(elsewhere, now_).differences,
              ::testing::ElementsAre("2 ranks instead of 4 ranks", "other machines"));
}

TEST_F(EarlierRun, ThatIsNoReportIsRefused) {
  const auto with = [&](const nlohmann::json& text) {
    return [&, text] {
      before_ = text;
      compare();
    };
  };
  auto newer = before_, large = before_, untyped = before_;
  newer["version"] = "9.0";
  large.at("step")["wall_ns"] = uint64_t{1} << 63;
  untyped.at("step")["wall_ns"] = "long";
  EXPECT_THAT(with({{"schema", "preserve/schedule"}}),
              fails_with(ErrorKind::input, HasSubstr("report.json of an earlier run")));
  EXPECT_THAT(with(nlohmann::json::array()), fails_with("report.json of an earlier run"));
  EXPECT_THAT(with(newer), fails_with("9.0"));
  EXPECT_THAT(with(large), fails_with(ErrorKind::input, HasSubstr("before.json")));
  EXPECT_THAT(with(untyped), fails_with("/step"));
}

}  // namespace
}  // namespace preserve::report
