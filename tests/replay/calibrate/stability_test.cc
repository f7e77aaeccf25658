// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/stability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace preserve {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

struct Machine {
  double memory = 20, cache = 60;  // bytes/ns
  int64_t kept_bytes = 4 * kMiB;
  double noise = 0.01;
  int64_t interrupted = 0;
  double clock_ns = 2600;
};

CalibrationSamples round_of(const Machine& machine, std::mt19937_64& random) {
  const auto noisy = [&](double dur_ns) {
    return dur_ns *
           std::uniform_real_distribution<double>(1 - machine.noise, 1 + machine.noise)(random);
  };
  CalibrationSamples round;
  round.host.cpu_name = "test processor";
  round.host.cache_bytes = 32 * kMiB;
  round.host.cores = {0, 1};
  round.probe_bytes = kMiB;
  round.chunk_bytes = 8192;
  const double probe = kMiB;
  round.stream_ns = {noisy(probe / machine.memory)};
  round.cold_ns = {noisy(probe / machine.memory)};
  round.hot_ns = {noisy(probe / machine.cache)};
  round.floor_ns = {150};
  round.clock_ns = {machine.clock_ns};
  round.test_ns = {40};
  round.methods = {{"load",
                    "consumer",
                    {noisy(probe / machine.memory)},
                    {noisy(probe / machine.cache)},
                    {noisy(100)}}};
  for (double bytes = kMiB / 4.0; bytes < 20 * kMiB; bytes *= 1.3) {
    const double hit = bytes <= static_cast<double>(machine.kept_bytes) ? 1 : 0;
    round.survival.push_back({static_cast<int64_t>(bytes),
                              {noisy(bytes / machine.memory)},
                              {noisy(bytes * (hit / machine.cache + (1 - hit) / machine.memory))}});
  }
  round.taken = 100;
  round.interrupted = machine.interrupted;
  return round;
}

std::vector<CalibrationSamples> rounds_of(const Machine& first, const Machine& second) {
  std::mt19937_64 random(7);
  std::vector<CalibrationSamples> rounds;
  for (int i = 0; i < 20; ++i) rounds.push_back(round_of(i < 10 ? first : second, random));
  return rounds;
}

TEST(Stability, AQuietMachineIsSteadyAndEveryFigureHasAnInterval) {
  const DeviceModel device = judged_device(rounds_of({}, {}));
  EXPECT_EQ(device.verdict, "steady") << device.verdict_reason;
  for (const char* figure :
       {"cache_budget_bytes", "memory_bandwidth_bytes_per_s", "cache_read_bandwidth_bytes_per_s",
        "op_floor_ns", "methods/load/consumer/bandwidth_bytes_per_s",
        "methods/load/consumer/start_latency_ns", "survival/262144/hit_fraction"}) {
    const DeviceInterval* interval = find_interval(device, figure);
    ASSERT_NE(interval, nullptr) << figure;
    EXPECT_EQ(interval->n, 20) << figure;
    EXPECT_LE(interval->low, interval->high) << figure;
  }
  const DeviceInterval* memory = find_interval(device, "memory_bandwidth_bytes_per_s");
  EXPECT_LE(memory->low, device.memory_bandwidth_bytes_per_s);
  EXPECT_GE(memory->high, device.memory_bandwidth_bytes_per_s);
}

TEST(Stability, HalvesWithDifferentBudgetsAreUnsteadyAndNamed) {
  const DeviceModel device = judged_device(rounds_of({}, {.kept_bytes = kMiB}));
  EXPECT_EQ(device.verdict, "unsteady");
  EXPECT_THAT(device.verdict_reason, HasSubstr("the budget lies between"));
  std::vector<std::string> said;
  EXPECT_LT(careful_device(device, said).cache_budget_bytes, 2 * kMiB);
}

TEST(Stability, AMemoryThatSlowsDownIsUnsteady) {
  const DeviceModel device = judged_device(rounds_of({}, {.memory = 12}));
  EXPECT_EQ(device.verdict, "unsteady");
  EXPECT_THAT(device.verdict_reason, HasSubstr("memory's rate"));
}

TEST(Stability, MoreIsMeasuredBeforeTheVerdictWouldBeUnsteady) {
  const std::vector<CalibrationSamples> rounds = rounds_of({}, {.memory = 19.3});
  const DeviceModel device = device_from(pooled(rounds));
  EXPECT_EQ(unsteady_reason(rounds, device), "");
  EXPECT_THAT(unsteady_reason(rounds, device, 0.5), HasSubstr("memory's rate"));
}

TEST(Stability, ADriftWidensIntervalsMoreThanNoiseDoes) {
  std::mt19937_64 random(7);
  std::vector<CalibrationSamples> rounds;
  for (int i = 0; i < 48; ++i) {  // fast for a while in each half
    rounds.push_back(round_of({.memory = i % 24 < 6 ? 20.0 : 16.0}, random));
  }
  const auto width = [](const std::vector<CalibrationSamples>& of) {
    const DeviceModel device = judged_device(of);
    const DeviceInterval* memory = find_interval(device, "memory_bandwidth_bytes_per_s");
    return memory->high - memory->low;
  };
  const double drifting = width(rounds);
  std::shuffle(rounds.begin(), rounds.end(), random);
  EXPECT_GT(drifting, 1.5 * width(rounds));
}

// Both halves agree, and the next calibration may differ all the same.
TEST(Stability, AClockThatMovesIsUnsteadyThoughTheRatesAgree) {
  std::mt19937_64 random(7);
  std::vector<CalibrationSamples> rounds;
  for (int i = 0; i < 20; ++i)
    rounds.push_back(round_of({.clock_ns = 2600.0 + 200 * (i % 2)}, random));
  EXPECT_EQ(unsteady_reason(rounds, device_from(pooled(rounds)), 0.5), "") << "no need for more";
  const DeviceModel device = judged_device(rounds);
  EXPECT_EQ(device.verdict, "unsteady");
  EXPECT_THAT(device.verdict_reason, HasSubstr("clock varies by 7 %"));
  for (size_t i = 0; i < rounds.size(); ++i) rounds[i].clock_ns = {2600.0 + 100 * (i % 2)};
  EXPECT_EQ(judged_device(rounds).verdict, "steady");
}

TEST(Stability, ManyInterruptionsAreUnsteady) {
  const DeviceModel device = judged_device(rounds_of({.interrupted = 60}, {.interrupted = 60}));
  EXPECT_EQ(device.verdict, "unsteady");
  EXPECT_THAT(device.verdict_reason, HasSubstr("1200 of 2000"));
}

TEST(Stability, AHandfulOfRoundsDecidesNothing) {
  std::mt19937_64 random(7);
  EXPECT_EQ(judged_device({round_of({}, random)}).verdict, "unsteady");
}

}  // namespace

TEST(Stability, OfSeveralHostsTheOneThatKeepsLeastIsPlannedFor) {
  std::vector<CalibrationSamples> rounds = rounds_of({}, {});
  for (CalibrationSamples& round : rounds) round.host.host = "left";
  for (CalibrationSamples& round : rounds_of({.kept_bytes = kMiB}, {.kept_bytes = kMiB})) {
    round.host.host = "right";
    rounds.push_back(round);
  }
  ASSERT_EQ(by_host(rounds).size(), 2U);
  const DeviceModel device = judged_device(rounds);
  EXPECT_EQ(device.verdict, "steady") << device.verdict_reason;
  EXPECT_EQ(device.cache_budget_bytes, judged_device(by_host(rounds)[1]).cache_budget_bytes);
  EXPECT_THAT(device.notes, testing::AllOf(testing::Contains(testing::HasSubstr("host left:")),
                                           testing::Contains(testing::HasSubstr("host right:"))));
  // A host that changes half way makes all of it unsteady, whichever is planned for.
  for (CalibrationSamples& round : rounds_of({}, {.memory = 12})) {
    round.host.host = "third";
    rounds.push_back(round);
  }
  EXPECT_EQ(judged_device(rounds).verdict, "unsteady");
  EXPECT_THAT(judged_device(rounds).verdict_reason, testing::StartsWith("third: "));
}

}  // namespace preserve
