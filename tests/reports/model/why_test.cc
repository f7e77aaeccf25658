// SPDX-License-Identifier: Apache-2.0
// Why a step takes as long, and what the first lines of a report say of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reports/model/parts.h"

namespace preserve::report {
namespace {

using ::testing::HasSubstr;

// A step of three operators: a window, its reader, something else.
Scenario small_scenario() {
  Scenario scenario;
  scenario.label = "real collectives";
  scenario.schedule_sha256 = "a";
  scenario.operators = {{0, "allreduce", "collective", 100, 100, 100, 120},
                        {1, "mlp", "compute", 500, 400, 500, 440},
                        {2, "norm", "compute", 50, 50, 50, 55}};
  Window window{0, "allreduce", "window"};
  window.used_bytes = window.capacity_bytes = 1000;
  window.predicted_saved_ns = 100;
  window.shadow_price_ns_per_mib = 7;
  window.prefetches = {{"w", "mlp", 1, false, 0, 1000, 100}};
  scenario.plan.verdict = "prefetch";
  scenario.plan.windows = {window};
  scenario.plan.prefetched_bytes = 1000;
  scenario.plan.baseline_step_ns = 650;
  scenario.plan.prefetch_step_ns = 550;
  scenario.plan.speedup = 650.0 / 550;
  scenario.plan.window_limited_step_ns = 545;
  scenario.plan.cache_limited_step_ns = 450;
  scenario.plan.all_hot_step_ns = 400;
  Measured measured;
  measured.planned_bytes = 1000;
  measured.arms.resize(2);
  measured.arms[0].name = "baseline";
  measured.arms[0].step_ns = {Interval{650, 650, 650}, ""};
  measured.arms[1].name = "prefetch";
  measured.arms[1].step_ns = {Interval{615, 615, 615}, ""};
  measured.arms[1].issued_bytes = 900;
  measured.speedup = {Interval{1.05, 1.057, 1.06}, ""};
  measured.verdict = "FAST";
  scenario.measured = {measured, ""};
  return scenario;
}

class OfAScenario : public testing::Test {
 protected:
  std::optional<WhyBar> bar(const std::string& name) const {
    for (const WhyBar& bar : explain(scenario)) {
      if (bar.name == name) return bar;
    }
    return {};
  }
  Headline headline() const { return headlines({scenario}).at(0); }

  Scenario scenario = small_scenario();
};
struct Why : OfAScenario {};
struct Headlines : OfAScenario {};

TEST_F(Why, OfAPlanThatFetchesNothingTheDifferenceIsNoise) {
  scenario.plan.verdict = "do-nothing";
  scenario.plan.windows.clear();
  scenario.plan.prefetched_bytes = scenario.measured.value->planned_bytes = 0;
  EXPECT_EQ(bar("all else")->dur_ns, 615 - 650);
  EXPECT_THAT(bar("all else")->meaning, HasSubstr("this is noise"));
}

TEST_F(Why, DividesTheWayFromTheBaselineToTheMeasuredStep) {
  EXPECT_EQ(bar("baseline")->dur_ns, 650);
  EXPECT_EQ(bar("predicted saving")->dur_ns, -100);
  EXPECT_EQ(bar("late")->dur_ns, 10) << "a tenth of the bytes";
  EXPECT_EQ(bar("evicted or read no faster")->dur_ns, 30) << "100 - 10 - 60";
  EXPECT_EQ(bar("slow-down of collectives")->dur_ns, 20);
  EXPECT_EQ(bar("all else")->dur_ns, 5);
  EXPECT_EQ(bar("prefetch")->dur_ns, 615);
  EXPECT_THAT(bar("slow-down of collectives")->windows, testing::ElementsAre(0));
}

TEST_F(Why, TellsEvictedFromReadNoFasterByTheHotArm) {
  OperatorTimes& mlp = scenario.operators[1];
  mlp.hot_ns = 420;  // with everything cached it would have saved 80 of the predicted 100
  EXPECT_FALSE(bar("evicted or read no faster"));
  EXPECT_EQ(bar("read no faster")->dur_ns, 20);
  EXPECT_EQ(bar("evicted")->dur_ns, 10) << "the 30 that are not late, less 20";
  mlp.read_bytes = 2000;  // half of them fetched, so half of what the hot arm saves
  EXPECT_EQ(bar("read no faster")->dur_ns, 30) << "no more than is short";
  EXPECT_FALSE(bar("evicted"));
  mlp.hot_ns = 100;
  EXPECT_FALSE(bar("read no faster"));
  EXPECT_EQ(bar("evicted")->dur_ns, 30);
}

TEST_F(Why, DividesTheWayFromThePredictedStepToAllHot) {
  EXPECT_EQ(bar("windows too short")->dur_ns, -100);
  EXPECT_EQ(bar("cache too small")->dur_ns, -5);
  EXPECT_EQ(bar("both at once")->dur_ns, -45);
  EXPECT_EQ(bar("all hot")->dur_ns, 400);
  scenario.plan.all_hot_step_ns = 449;  // longer windows alone nearly get there
  EXPECT_FALSE(bar("both at once"));
  EXPECT_EQ(bar("counted twice")->dur_ns, 4);
}

TEST_F(Why, BlamesNobodyWhenOperatorsWereNotTimed) {
  for (OperatorTimes& op : scenario.operators) op.prefetch_ns.reset();
  EXPECT_FALSE(bar("slow-down of collectives"));
  EXPECT_EQ(bar("all else")->dur_ns, 615 - (650 - 100 + 10));
}

TEST_F(Headlines, OfASlowPlanSaysNotToApplyItAndWhatItLosesBy) {
  scenario.measured.value->verdict = "SLOW";
  scenario.measured.value->arms[1].step_ns = {Interval{700, 700, 700}, ""};
  scenario.why = explain(scenario);
  EXPECT_THAT(headline().advice, HasSubstr("Not applying this plan"));
  EXPECT_THAT(headline().reason, HasSubstr("Most is lost by \"all else\""));
}

TEST_F(Headlines, PrefersWhatWasMeasuredInTheProgram) {
  Scenario replayed = small_scenario(), applied = small_scenario();
  applied.measured.value->applied = true;
  applied.measured.value->verdict = "SAME";
  applied.label = "in the program itself";
  const std::vector<Headline> found = headlines({replayed, applied});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].basis, "applied");
  EXPECT_EQ(found[0].verdict, "SAME");
  std::vector<std::string> marks;
  for (const Headline::Mark& mark : found[0].marks) marks.push_back(mark.name);
  EXPECT_THAT(marks,
              testing::ElementsAre("predicted", "replayed", "applied", "bound: these windows",
                                   "bound: this cache", "bound: all hot"));
}

TEST_F(Headlines, AdvisesWhatIsWorthMost) {
  scenario.why = explain(scenario);
  EXPECT_THAT(headline().advice, HasSubstr("Longer windows"));
  EXPECT_EQ(headline().advice_worth_ns, 100);
  scenario.plan.cache_limited_step_ns = 550;
  scenario.plan.window_limited_step_ns = 500;
  EXPECT_THAT(headline().advice, HasSubstr("More cache"));
  scenario.measured.value->arms[1].issued_bytes = 200;  // four fifths came too late
  scenario.why = explain(scenario);
  EXPECT_THAT(headline().advice, HasSubstr("Earlier fetching"));
  scenario.measured.value->verdict = "AMBG";
  EXPECT_THAT(headline().advice, HasSubstr("More samples"));
}

TEST_F(Headlines, SaysShadowPricesInWords) {
  EXPECT_EQ(headline().prices, "One more MiB under allreduce (0) is worth 7 ns per step.");
  scenario.plan.cache_shadow_price_ns_per_mib = 1200;
  EXPECT_EQ(headline().prices,
            "One more MiB of cache is worth 1.20 us per step; one more MiB under allreduce (0) is "
            "worth 7 ns per step.");
  scenario.plan.cache_shadow_price_ns_per_mib = 0;
  scenario.plan.windows[0].shadow_price_ns_per_mib = 0;
  EXPECT_THAT(headline().prices, HasSubstr("worth nothing"));
}

TEST_F(Headlines, OfAStepAtItsBoundAdvisesNothing) {
  scenario.measured = Known<Measured>::unknown("no replay");
  scenario.plan.cache_limited_step_ns = scenario.plan.window_limited_step_ns = 550;
  scenario.plan.all_hot_step_ns = 550;
  EXPECT_EQ(headline().verdict, "predicted");
  EXPECT_THAT(headline().advice, HasSubstr("at its bound"));
  EXPECT_FALSE(headline().advice_worth_ns);
}

}  // namespace
}  // namespace preserve::report
