// SPDX-License-Identifier: Apache-2.0
// The arms as a function of the step, and the guard against simulated programs: error rates,
// detection, and that nothing slow stays on.
#include "apply/control/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <utility>

namespace preserve::apply {
namespace {

std::string arms(uint32_t steps, const Decision& decision = {}, Mode mode = Mode::guard,
                 uint32_t control_every = 4) {
  std::string letters;
  for (uint32_t step = 0; step < steps; ++step) {
    letters += "ona"[static_cast<size_t>(place_of(step, decision, mode, control_every).arm)];
  }
  return letters;
}

TEST(Arms, AlternateInBlocksOfTwoStepsInThueMorseOrder) {
  // Pairs with the plan are numbered 0, 1, 2, 3, 4, 5 ...: in order when the bits are even.
  EXPECT_EQ(arms(32), "ooaaaaooaaoooonnooaaaaooooaannoo");
}

TEST(Arms, OfADryRunFetchNothing) {
  EXPECT_EQ(arms(12, {}, Mode::dry_run), "oonnnnoonnoo");
}

TEST(Arms, StayOriginalWhenAskedOrOff) {
  EXPECT_EQ(arms(8, {}, Mode::original), "oooooooo");
  EXPECT_EQ(arms(12, {State::off, Off::slow, 4}), "ooaaoooooooo");
}

TEST(Arms, KeepAControlWhenOn) {
  EXPECT_EQ(arms(40, {State::on, Off::none, 0}), "aaaaaaaaaaaaooaaaaaaaaaaaaaaaaooaaaaaaaa");
}

struct Program {
  double gain = 0;       // log of original / applied
  double null_gain = 0;  // the same of null
  double noise = 0.015;  // spread of one step, correlated with the one before
  double drift = 0;      // per step
  double hiccups = 0;    // share of steps that take six times as long
  uint64_t seed = 1;
};
struct Run {
  Decision decision{};
  uint64_t applied_after_off = 0;
};

Run simulate(const Program& program, uint32_t steps, Mode mode = Mode::guard) {
  Guard guard({mode, kDefaultDeadlinePairs, kDefaultControlEvery});
  std::mt19937_64 random(program.seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  Run run;
  double level = 0;
  for (uint32_t step = 0; step < steps; ++step) {
    const Arm arm = guard.begin();
    if (guard.is_off() && arm != Arm::original) ++run.applied_after_off;
    constexpr double kMemory = 0.5;
    level = kMemory * level + program.noise * std::sqrt(1 - kMemory * kMemory) * normal(random);
    double log_ns = level + program.drift * step;
    if (arm == Arm::applied) log_ns -= program.gain;
    if (arm == Arm::null) log_ns -= program.null_gain;
    double dur_ns = 1e6 * std::exp(log_ns);
    if (uniform(random) < program.hiccups) dur_ns *= 6;
    guard.end(dur_ns, arm == Arm::applied ? 1e5 : 0);
  }
  run.decision = guard.decision();
  return run;
}

// Share of runs that end so, of several seeds.
template <typename Is>
double share(Program program, uint32_t steps, Is is) {
  constexpr int kRuns = 300;
  int count = 0;
  for (int run = 0; run < kRuns; ++run) {
    program.seed = static_cast<uint64_t>(run) + 1;
    const Run result = simulate(program, steps);
    EXPECT_EQ(result.applied_after_off, 0U);
    count += is(result);
  }
  return static_cast<double>(count) / kRuns;
}

bool is_on(const Run& run) {
  return run.decision.state == State::on;
}
bool is_off_in_time(const Run& run) {
  return run.decision.state == State::off && run.decision.from_step <= 200;
}

TEST(Guard, TurnsNoUselessPlanOn) {
  EXPECT_LE(share({}, 200, is_on), 0.05);
  EXPECT_LE(share({.drift = 0.001}, 200, is_on), 0.05);
  EXPECT_LE(share({.hiccups = 0.02}, 200, is_on), 0.05);
}

TEST(Guard, TurnsASlowPlanOffWithinTwoHundredSteps) {
  EXPECT_EQ(share({.gain = -0.02}, 200, is_off_in_time), 1.0);
  EXPECT_EQ(share({.gain = -0.2}, 200, is_off_in_time), 1.0);
  EXPECT_GE(share({.gain = -0.02, .noise = 0.1}, 200, is_off_in_time), 0.97);  // or by chance on
}

TEST(Guard, NamesTheVerdict) {
  EXPECT_EQ(simulate({.gain = -0.05}, 200).decision.off, Off::slow);
  EXPECT_EQ(simulate({.noise = 0.001}, 200).decision.off, Off::same);
  EXPECT_EQ(simulate({.noise = 0.3}, 200).decision.off, Off::undecided);
}

TEST(Guard, TurnsAFastPlanOnAndKeepsIt) {
  EXPECT_GE(share({.gain = 0.03}, 200, is_on), 0.95);
  EXPECT_GE(share({.gain = 0.10, .noise = 0.03}, 200, is_on), 0.95);
  EXPECT_GE(share({.gain = 0.10, .hiccups = 0.02}, 200, is_on), 0.95);
  EXPECT_GE(share({.gain = 0.05}, 6000, is_on), 0.95);
}

TEST(Guard, CountsNoFirstStepOfAnArm) {
  Guard guard({Mode::compare});
  Arm before = Arm::original;
  for (uint32_t step = 0; step < 400; ++step) {
    const Arm arm = guard.begin();
    double dur_ns = arm == Arm::applied ? 0.9e6 : 1e6;
    if (step > 0 && arm != before) dur_ns = arm == Arm::applied ? 1.1e6 : 0.9e6;
    before = arm;
    guard.end(dur_ns * (1 + 1e-4 * (step % 3)), 0);
  }
  EXPECT_GT(guard.applied().pairs, 50U);
  EXPECT_NEAR(guard.applied().mean, -std::log(0.9), 1e-3);
  EXPECT_NEAR(guard.null().mean, 0, 1e-3);
}

TEST(Guard, KnowsHowFastAPlanIsBeforeItStaysOn) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Guard guard({});
    std::mt19937_64 random(seed);
    std::normal_distribution<double> noise(0, 0.02);
    uint64_t at_decision = 0;
    for (uint32_t step = 0; step < 1000; ++step) {
      const double gain = guard.begin() == Arm::applied ? 0.1 : 0;
      const auto decided = guard.end(1e6 * std::exp(noise(random) - gain), 0).decision;
      if (!decided) continue;
      ASSERT_EQ(decided->state, State::on);
      EXPECT_LE(guard.applied().high - guard.applied().low, 0.04);
      at_decision = guard.applied().pairs;
    }
    EXPECT_GE(guard.applied().pairs, at_decision + guard.control().pairs);
    EXPECT_GT(guard.control().pairs, 0U);
    EXPECT_NEAR(guard.applied().mean, 0.1, 0.03);
  }
}

TEST(Guard, NoticesWhenAFastPlanIsNoLonger) {
  Guard guard({Mode::guard, kDefaultDeadlinePairs, 8});
  std::mt19937_64 random(3);
  std::normal_distribution<double> noise(0, 0.01);
  for (uint32_t step = 0; step < 4000 && !guard.is_off(); ++step) {
    const Arm arm = guard.begin();
    const double gain = step < 300 ? 0.1 : -0.05;
    if (step == 299) {
      EXPECT_EQ(guard.decision().state, State::on);
    }
    guard.end(1e6 * std::exp(noise(random) - (arm == Arm::applied ? gain : 0)), 0);
  }
  EXPECT_TRUE(guard.is_off());
  EXPECT_THAT(guard.decision().off, testing::AnyOf(Off::slow, Off::no_gain));
}

// Until the guard turns the plan off or `steps` are over; `take` gives the time of a step and that
// of its fetches.
Run follow(uint32_t steps, const std::function<std::pair<double, double>(Arm)>& take) {
  Guard guard({});
  guard.follow();  // no verdict comes first
  for (uint32_t step = 0; step < steps && !guard.is_off(); ++step) {
    const auto [dur_ns, fetch_ns] = take(guard.begin());
    guard.end(dur_ns, fetch_ns);
  }
  return {guard.decision(), 0};
}

TEST(Guard, TurnsAPlanOffAtOnceWhoseFetchesMakeSeveralStepsLong) {
  uint32_t fine = 60, made_long = 0;
  const auto run = follow(200, [&](Arm arm) {
    if (fine > 0) --fine;
    if (arm != Arm::applied) return std::pair(1e6, 0.0);
    if (fine > 0) return std::pair(1e6, 2e5);
    ++made_long;
    return std::pair(6e6, 4e6);
  });
  EXPECT_EQ(run.decision.off, Off::long_step);
  EXPECT_GE(made_long, 2U);  // one says little
  EXPECT_LE(made_long, 4U);
}

TEST(Guard, IsNotMovedByOneLongStep) {
  uint32_t step = 0;
  bool was_long = false;
  const auto run = follow(400, [&](Arm arm) {
    if (arm != Arm::applied) return std::pair(1e6, 0.0);
    if (++step < 40 || was_long) return std::pair(1e6, 2e5);
    was_long = true;
    return std::pair(60e6, 59e6);
  });
  EXPECT_EQ(run.decision.state, State::measuring);
}

// A core that is taken away, anywhere in the step.
TEST(Guard, BlamesNoPlanForWhatTheMachineDoes) {
  constexpr int kRuns = 300;
  int off = 0;
  for (int seed = 0; seed < kRuns; ++seed) {
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    std::uniform_real_distribution<double> uniform;
    const auto run = follow(2000, [&](Arm arm) {
      const double fetch_ns = arm == Arm::applied ? 3e5 : 0;
      if (uniform(random) >= 0.02) return std::pair(1e6, fetch_ns);
      const bool in_fetch = uniform(random) < fetch_ns / 1e6;
      return std::pair(8e6, fetch_ns + (in_fetch ? 7e6 : 0));
    });
    off += run.decision.state == State::off;
  }
  EXPECT_LE(off, kRuns * 3 / 100);  // two tests of 1 %, and chance
}

TEST(Guard, TurnsAPlanOffThatDisturbsManySteps) {
  Guard guard({Mode::guard, 1000, kDefaultControlEvery});
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform;
  for (uint32_t step = 0; step < 600 && !guard.is_off(); ++step) {
    const Arm arm = guard.begin();
    const bool disturbed = arm == Arm::applied && uniform(random) < 0.1;
    guard.end((disturbed ? 4e6 : 1e6) * (1 + 0.2 * uniform(random)), 0);
  }
  EXPECT_EQ(guard.decision().off, Off::disturbed);
}

TEST(Guard, TurnsAPlanOffThatMakesEveryStepFarLonger) {
  for (const double gain : {-0.8, -1.5, -2.5}) {
    EXPECT_EQ(share({.gain = gain}, 200, is_off_in_time), 1.0) << gain;
  }
}

TEST(Guard, CountsNoPairThatWasLostFromSight) {
  Guard guard({});
  for (uint32_t step = 0; step < 11; ++step) {
    guard.begin();
    // What is usual must be known before anything counts.
    EXPECT_FALSE(guard.end(1e6, 0).pair);
  }
  guard.begin();
  guard.lose();
  EXPECT_EQ(guard.step(), 12U);
  for (int i = 0; i < 4; ++i) {
    guard.begin();
    EXPECT_EQ(guard.end(1e6, 0).pair, i == 3);
  }
  guard.lose();  // between two steps of different pairs: the numbers go on with a whole pair
  EXPECT_EQ(guard.step() % kPairSteps, 0U);
  EXPECT_EQ(guard.null().pairs, 1U);
  EXPECT_EQ(guard.applied().pairs, 0U);
}

TEST(Guard, FollowsAnotherRanksDecision) {
  Guard guard({});
  guard.follow();
  guard.adopt({State::on, Off::none, 8});
  for (uint32_t step = 0; step < 8; ++step) {
    guard.begin();
    guard.end(1e6, 0);
  }
  EXPECT_EQ(guard.begin(), Arm::applied);
  guard.adopt({State::off, Off::same, 12});
  guard.adopt({State::on, Off::none, 12});  // off stays off
  for (uint32_t step = 8; step < 12; ++step) {
    guard.begin();
    EXPECT_FALSE(guard.end(1e6, 0).decision.has_value());
  }
  EXPECT_EQ(guard.begin(), Arm::original);
  EXPECT_TRUE(guard.is_off());
}

TEST(Guard, NeverDecidesWhenNoVerdictIsWanted) {
  for (const Mode mode : {Mode::dry_run, Mode::always, Mode::original, Mode::compare}) {
    const State state = mode == Mode::always ? State::on : State::measuring;
    EXPECT_EQ(simulate({.gain = -0.2}, 400, mode).decision.state, state);
  }
}

TEST(Decision, SurvivesItsPacking) {
  const Decision decision{State::off, Off::disturbed, 4'000'000'000U};
  EXPECT_EQ(Decision::unpacked(decision.packed()), decision);
  EXPECT_EQ(Decision::unpacked(0).from_step, 0U);
}

}  // namespace
}  // namespace preserve::apply
