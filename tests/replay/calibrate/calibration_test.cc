// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>

#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

constexpr int64_t kMiB = 1 << 20;

// Memory 20 GB/s, cache 60 GB/s, load works, the back-to-back hint is dropped for nine lines of
// ten.
CalibrationSamples plausible() {
  CalibrationSamples samples;
  samples.host.cpu_name = "test processor";
  samples.host.cache_bytes = 32 * kMiB;
  samples.host.cores = {0, 1, 2, 3};
  samples.host.clock_note = "clock: fixed";
  samples.ranks = 2;
  samples.probe_bytes = 4 * kMiB;
  samples.chunk_bytes = 8192;
  const double cold_ns = 4 * kMiB / 20.0;
  const double hot_ns = 4 * kMiB / 60.0;
  samples.stream_ns = samples.cold_ns = {cold_ns, cold_ns, cold_ns};
  samples.hot_ns = {hot_ns, hot_ns};
  samples.floor_ns = {150};
  samples.clock_ns = {2600};
  samples.test_ns = {40};
  samples.post_ns = {500};
  samples.methods = {
      {"prefetcht0", "consumer", {cold_ns / 3}, {0.9 * cold_ns + 0.1 * hot_ns}, {90}},
      {"load", "consumer", {cold_ns}, {hot_ns}, {100}},
      {"load", "spare", {cold_ns}, {1.2 * cold_ns}, {300}},
  };
  samples.survivor = 1;
  for (int64_t bytes = kMiB; bytes <= 48 * kMiB; bytes += kMiB) {
    const double hit = bytes <= 12 * kMiB ? 1.0 : 12.0 * kMiB / static_cast<double>(bytes) / 2;
    const auto size = static_cast<double>(bytes);
    samples.survival.push_back({bytes, {size / 20}, {hit * size / 60 + (1 - hit) * size / 20}});
  }
  for (const int64_t bytes : {1 << 10, 16 << 10, 256 << 10}) {
    samples.allreduce.push_back({bytes, {2000 + static_cast<double>(bytes) / 5}});
  }
  // 300 ns a window and a nanosecond per thousand bytes.
  samples.windows = {{20'000, {500}, {200'000}}, {80'000, {1300}, {1'000'000}}};
  samples.mpi_library = "test MPI";
  samples.date = "2026-01-01";
  return samples;
}

TEST(Calibration, ADroppedHintDoesNotWin) {
  const auto methods = rank_methods(plausible(), 4 * kMiB);
  ASSERT_THAT(methods, testing::SizeIs(2));  // the spare core makes the reader slower: not listed
  EXPECT_EQ(methods[0].name, "load");
  EXPECT_EQ(methods[0].placement, "consumer");
  EXPECT_NEAR(methods[0].bandwidth_bytes_per_s, 20e9, 1e6);
  EXPECT_NEAR(methods[0].hit_read_bandwidth_bytes_per_s, 60e9, 1e6);
  EXPECT_EQ(methods[0].start_latency_ns, 600);
  EXPECT_EQ(methods[1].name, "prefetcht0");
}

TEST(Calibration, ASlowMethodDoesNotWinEither) {
  CalibrationSamples samples = plausible();
  const double cold_ns = samples.cold_ns[0];
  samples.methods.push_back({"crawl", "consumer", {20 * cold_ns}, {samples.hot_ns[0]}, {100}});
  EXPECT_EQ(rank_methods(samples, 4 * kMiB).front().name, "load");
}

TEST(Calibration, TheMemorysLowRateIsThatOfTheSlowestFifth) {
  CalibrationSamples samples = plausible();
  samples.cold_ns.push_back(2 * samples.cold_ns[0]);
  samples.cold_ns.push_back(2 * samples.cold_ns[0]);
  const DeviceModel device = device_from(samples);
  EXPECT_NEAR(device.memory_bandwidth_bytes_per_s, 20e9, 1e6);
  EXPECT_NEAR(device.memory_bandwidth_low_bytes_per_s, 10e9, 1e6);
}

TEST(Calibration, TheBudgetIsWhereBytesStopSurviving) {
  const DeviceModel device = device_from(plausible());
  EXPECT_NEAR(static_cast<double>(device.cache_budget_bytes), 0.95 * 12 * kMiB, 4096);
  EXPECT_NEAR(device.memory_bandwidth_bytes_per_s, 20e9, 1e6);
  EXPECT_NEAR(device.cache_read_bandwidth_bytes_per_s, 60e9, 1e6);
  EXPECT_EQ(device.ranks, 2);
  EXPECT_EQ(device.op_floor_ns, 150);
  EXPECT_NEAR(device.slowdown_per_byte_ns, 0.001, 1e-6);
  EXPECT_NEAR(static_cast<double>(device.window_cost_ns), 300, 1);
}

TEST(Calibration, OneDisturbedPointDoesNotEndTheBudget) {
  CalibrationSamples samples = plausible();
  samples.survival[4].read_ns = samples.survival[4].cold_ns;
  const DeviceModel device = device_from(samples);
  EXPECT_NEAR(static_cast<double>(device.cache_budget_bytes), 0.95 * 12 * kMiB, 4096);
}

TEST(Calibration, ARankGetsNoMoreThanItsShareOfTheCache) {
  HostCores host;
  host.cache_bytes = 32 * kMiB;
  host.private_cache_bytes = kMiB;
  host.cores = {0, 1, 2, 3, 4, 5, 6, 7};
  host.cache_cores = 4;
  EXPECT_EQ(cache_share_bytes(host, 1), 33 * kMiB);
  EXPECT_EQ(cache_share_bytes(host, 2), 17 * kMiB);
  EXPECT_EQ(cache_share_bytes(host, 8), 9 * kMiB);  // four of them have another cache
  EXPECT_EQ(cache_share_bytes(host, 16), 5 * kMiB);
  host.cache_cores = 0;  // unknown: all share it
  EXPECT_EQ(cache_share_bytes(host, 8), 5 * kMiB);
  host.cores = {0};
  host.cache_cores = 1;
  EXPECT_EQ(cache_share_bytes(host, 2), 17 * kMiB);  // by turns
}

TEST(Calibration, NoiseCannotPromiseMoreThanTheShare) {
  CalibrationSamples samples = plausible();
  samples.host.cache_cores = 4;
  for (FootprintSamples& point : samples.survival) {  // everything seems to survive
    point.read_ns = {static_cast<double>(point.bytes) / 60};
  }
  EXPECT_NEAR(static_cast<double>(device_from(samples).cache_budget_bytes), 0.95 * 16 * kMiB,
              4096);  // half of 32 MiB
  samples.host.private_cache_bytes = 2 * kMiB;
  EXPECT_NEAR(static_cast<double>(device_from(samples).cache_budget_bytes), 0.95 * 18 * kMiB, 4096);
}

TEST(Calibration, WhereNothingHelpsThereAreNoMethodsAndNoBudget) {
  CalibrationSamples samples = plausible();
  for (MethodSamples& method : samples.methods) method.read_ns = samples.cold_ns;
  const DeviceModel device = device_from(samples);
  EXPECT_THAT(device.methods, testing::IsEmpty());
  EXPECT_EQ(device.cache_budget_bytes, 0);
}

TEST(Calibration, TheFileIsValid) {
  const test::TemporaryDirectory directory;
  for (const bool works : {true, false}) {
    CalibrationSamples samples = plausible();
    if (!works) {
      for (MethodSamples& method : samples.methods) method.read_ns = samples.cold_ns;
    }
    const auto path = directory / "device.json";
    const std::string text = to_json(device_from(samples));
    std::ofstream(path) << text;
    EXPECT_EQ(to_json(load_device(path)), text);
  }
}

TEST(Calibration, ChunksKeepTheLookCheap) {
  EXPECT_EQ(chunk_bytes(20, 20e9), 16 << 10);
  EXPECT_EQ(chunk_bytes(200, 20e9), 32 << 10);  // two microseconds would be twice that
  EXPECT_EQ(chunk_bytes(1, 1e9), 1 << 10);
  EXPECT_EQ(chunk_bytes(1e6, 1e12), 64 << 10);
}

TEST(Calibration, TheCollectiveFitFindsLatencyAndBandwidth) {
  const CollectiveFit fit = fit_collective(plausible().allreduce, 2);
  EXPECT_NEAR(fit.latency_ns, 2000, 1);
  EXPECT_NEAR(fit.bandwidth_bytes_per_s, 5e9, 1e7);
  EXPECT_LE(fit.max_relative_error, 0.001);
}

RC_GTEST_PROP(Calibration, SurvivalNeverRisesAndTheBudgetLiesOnIt, ()) {
  CalibrationSamples samples = plausible();
  const auto reads =
      *rc::gen::container<std::vector<int>>(samples.survival.size(), rc::gen::inRange(0, 1000));
  for (size_t i = 0; i < reads.size(); ++i) {
    FootprintSamples& point = samples.survival[i];
    point.read_ns = {point.cold_ns[0] * (0.2 + reads[i] / 1000.0)};
  }
  const std::vector<SurvivalPoint> curve = survival_curve(samples, 60e9);
  RC_ASSERT(curve.size() == samples.survival.size());
  for (size_t i = 0; i < curve.size(); ++i) {
    RC_ASSERT(curve[i].hit_fraction >= 0 && curve[i].hit_fraction <= 1);
    if (i > 0) RC_ASSERT(curve[i].hit_fraction <= curve[i - 1].hit_fraction);
  }
  for (const int64_t budget : {cache_budget(curve, samples.host.cache_bytes),
                               cache_budget_between(curve, samples.host.cache_bytes)}) {
    RC_ASSERT(budget >= 0 && budget <= samples.host.cache_bytes);
  }
}

}  // namespace
}  // namespace preserve
