// SPDX-License-Identifier: Apache-2.0
// From given samples of a GPU's calibration to device.json.
#include "replay/gpu/calibrate/calibration.h"
#include "replay/gpu/calibrate/graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <fstream>

#include "common/error.h"
#include "common/output_file.h"
#include "replay/gpu/calibrate/fits.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kMiB = 1 << 20;
constexpr double kCold = 2000, kHot = 5000, kRate = 1600;  // bytes/ns
constexpr double kRamp = 1000, kStart = 1200;              // ns

// Three rounds: the middle one is the truth.
Series around(double value) {
  return {value * 0.99, value, value * 1.02};
}
double cold_ns(int64_t bytes) {
  return kRamp + static_cast<double>(bytes) / kCold;
}
double hot_ns(int64_t bytes) {
  return kRamp + static_cast<double>(bytes) / kHot;
}
// A reader that follows the prefetch in the order of addresses.
double read_ns(int64_t bytes, double window_ns, double rate) {
  const double there = std::max(0.0, (window_ns - kStart) * rate) * kHot / (kHot - rate);
  const double share = std::min(1.0, there / static_cast<double>(bytes));
  return share * hot_ns(bytes) + (1 - share) * cold_ns(bytes);
}

WindowTimes window(const GpuIssue& issue, int64_t hold_ns, int64_t bytes, double rate) {
  const auto hold = static_cast<double>(hold_ns);
  const double read = read_ns(bytes, hold, rate);
  return {issue, hold_ns, bytes, {hold, hold, hold}, {read, read, read}};
}

FootprintTimes footprint(int64_t bytes, double survive) {
  const double again = survive * hot_ns(bytes) + (1 - survive) * cold_ns(bytes);
  return {bytes, Series(3, cold_ns(bytes)), Series(3, again)};
}

const GpuIssue kBulk{GpuFetch::bulk_l2, 8, 4096, GpuEviction::normal};

RampTimes ramp(const GpuIssue& issue, StartWay way, double rate) {
  RampTimes times{way, {}};
  for (const int64_t bytes : {4 * kMiB, 8 * kMiB, 16 * kMiB}) {
    for (int64_t hold_ns = 500; hold_ns < 12'000; hold_ns += 750) {
      times.windows.push_back(window(issue, hold_ns, bytes, rate));
    }
  }
  return times;
}

// A GPU with 32 MiB of L2, of which 24 MiB hold.
GpuCalibrationSamples plausible() {
  GpuCalibrationSamples samples;
  samples.facts.name = "Test GPU";
  samples.facts.compute_major = 9;
  samples.facts.driver = "580.1";
  samples.facts.runtime_cuda = 13000;
  samples.facts.sms = 132;
  samples.facts.l2_bytes = 32 * kMiB;
  samples.facts.memory_bytes = 80'000'000'000;
  samples.facts.persisting_l2_default_bytes = 6 * kMiB;
  samples.facts.persisting_l2_max_bytes = 20 * kMiB;
  samples.before.sm_clock_mhz = 1980;
  samples.before.memory_clock_mhz = 2619;
  samples.before.temperature_c = 41;
  samples.after = samples.before;
  samples.after.sm_clock_mhz = 1755;
  samples.date = "2026-01-01";
  samples.runs_per_value = 8;
  samples.took_s = 42;
  samples.first = {3, 1, false, "power cap", {5000, 5001, 5000}};
  samples.second = {3, 0, false, "", {5000, 5002, 5000}};
  samples.memory_read_bytes = 128 * kMiB;
  samples.memory_read_ns = around(128 * kMiB / kCold);
  for (int64_t bytes = 2 * kMiB; bytes <= 48 * kMiB;
       bytes += bytes < 4 * kMiB ? 2 * kMiB : 4 * kMiB) {
    samples.footprints.push_back(footprint(bytes, bytes <= 24 * kMiB ? 1 : 0.2));
  }
  for (const int ctas : {4, 8, 16}) {
    for (const int64_t hold_ns : kRankHoldsNs) {
      GpuIssue issue = kBulk;
      issue.ctas = ctas;
      samples.grid.push_back(window(issue, hold_ns, 16 * kMiB, ctas == 4 ? kRate / 2 : kRate));
    }
  }
  samples.halves.push_back({1, 2, 4 * kMiB, around(1500)});
  samples.leaves = {{0, around(4000), around(20'000)},
                    {kLeafPlaces, around(4320), around(20'800)},
                    {64, around(9999), around(99'999)}};
  samples.short_chain = {8, around(8 * 1500)};
  samples.long_chain = {72, around(72 * 1500)};
  samples.references = samples.footprints;
  samples.ramps = {ramp(kBulk, StartWay::leaf, kRate), ramp(kBulk, StartWay::side_stream, kRate)};
  for (const int64_t bytes : {4 * kMiB, 8 * kMiB, 16 * kMiB}) {
    const Series hot(3, hot_ns(bytes));
    samples.arrived.push_back({kBulk, bytes, hot});
    samples.retired.push_back(
        {kBulk, bytes, around(3000 + static_cast<double>(bytes) / kRate), hot});
  }
  for (const FootprintTimes& one : samples.footprints) {
    samples.survival.push_back({kBulk, one.bytes, one.again_ns});
  }
  const double cold = cold_ns(4 * kMiB), hot = hot_ns(4 * kMiB);
  samples.evictions = {
      {SetAside::as_found, GpuEviction::normal, 4 * kMiB, 32 * kMiB, {cold, cold, cold}},
      {SetAside::as_found, GpuEviction::last, 4 * kMiB, 32 * kMiB, {hot, hot, hot}}};
  samples.link = LinkTimes{kMiB, 16 * kMiB, {10'000, 10'000, 10'100}, {11'700, 11'600, 11'800}};
  samples.chase = ChaseTimes{24, around(4800), around(5280), around(12'000), around(14'400)};
  return samples;
}

DeviceModel written_and_read(const DeviceModel& device) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "device.json") << to_json(device);
  return load_device(directory / "device.json");
}

TEST(GpuCalibration, FixedSamplesGiveTheGoldenFile) {
  DeviceModel device = device_from(plausible());
  add_published(device, load_device(PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json"),
                "examples/devices/h100-sxm.json");
  const std::string text = to_json(device);
  const std::string path = PRESERVE_SOURCE_DIR "/tests/replay/golden/gpu_device.json";
  if (std::getenv("UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  EXPECT_EQ(text, read_text_file(path)) << "UPDATE_GOLDEN=1 rewrites it";
  EXPECT_EQ(to_json(written_and_read(device)), text);
}

TEST(GpuCalibration, WhatTheSamplesWereMadeOfComesOut) {
  const DeviceModel device = device_from(plausible());
  EXPECT_NEAR(device.memory_bandwidth_bytes_per_s, kCold * 1e9, 1);
  EXPECT_NEAR(device.cache_read_bandwidth_bytes_per_s / (kHot * 1e9), 1, 1e-6);
  EXPECT_EQ(device.cache_budget_bytes, 24 * kMiB);
  EXPECT_EQ(device.op_floor_ns, 1500);
  EXPECT_EQ(device.window_cost_ns, 50);  // of one leaf at each node
  EXPECT_NEAR(device.slowdown_per_byte_ns, 1700.0 / (16 * kMiB), 1e-9);
  ASSERT_THAT(device.methods, SizeIs(1));  // marked lines survive, but no ramp was measured of them
  EXPECT_NEAR(device.methods[0].bandwidth_bytes_per_s / (kRate * 1e9), 1, 0.02);
  EXPECT_NEAR(device.methods[0].start_latency_ns, kStart, 60);
  EXPECT_NEAR(device.methods[0].hit_read_bandwidth_bytes_per_s / (kHot * 1e9), 1, 1e-6);
  EXPECT_EQ(device.methods[0].ctas, 8);
  EXPECT_EQ(device.methods[0].chunk_bytes, 4096);
}

OperatorTimes operator_times(OperatorClass of, int64_t bytes, Series alone_ns, Series beside_ns) {
  return {kBulk, of, 0, bytes, 2 * kMiB, std::move(alone_ns), std::move(beside_ns)};
}

TEST(GpuCalibration, SlowdownsAreBeyondWhatSharingTheMemoryCosts) {
  GpuCalibrationSamples samples = plausible();
  const double fetched = 2 * kMiB;
  // As fast as the memory: beside it a byte costs 1 / kCold by sharing alone.
  const double product_ns = 16 * kMiB / kCold, sharing_ns = fetched / kCold;
  samples.operators = {
      operator_times(OperatorClass::product, 16 * kMiB, Series(3, product_ns),
                     Series(3, product_ns + sharing_ns + 300)),
      operator_times(OperatorClass::attention, 1 << 10, Series(3, 20'000),
                     {21'900, 22'000, 22'300}),
      operator_times(OperatorClass::small, 1 << 10, Series(3, 20'000), Series(3, 19'900))};
  const DeviceModel device = device_from(samples);
  const PrefetchMethod& method = device.methods.at(0);
  const OperatorSlowdowns& slowdowns = method.operator_slowdown_per_byte_ns;
  EXPECT_NEAR(*slowdowns[OperatorClass::product], 300 / fetched, 1e-8);
  EXPECT_NEAR(*slowdowns[OperatorClass::attention], 2'000 / fetched, 1e-8);
  EXPECT_EQ(slowdowns[OperatorClass::small], 0);  // noise makes nothing faster
  const DeviceInterval* interval =
      find_interval(device, slowdown_figure(method, OperatorClass::attention));
  ASSERT_NE(interval, nullptr);
  EXPECT_NEAR(interval->low, 1'900 / fetched, 1e-8);
  EXPECT_NEAR(interval->high, 2'300 / fetched, 1e-8);
  EXPECT_EQ(interval->n, 3);
  EXPECT_THAT(device.notes, Contains(HasSubstr("in 2 blocks (attention)")));
}

TEST(GpuCalibration, SlowdownsThatDoNotRepeatAreNotKnown) {
  GpuCalibrationSamples samples = plausible();
  samples.operators = {operator_times(OperatorClass::attention, 1 << 10, Series(3, 20'000),
                                      {20'000, 22'000, 24'000})};
  const DeviceModel device = device_from(samples);
  EXPECT_FALSE(device.methods.at(0).operator_slowdown_per_byte_ns.any());
  EXPECT_THAT(device.intervals, IsEmpty());
  EXPECT_THAT(device.notes, Contains(AllOf(HasSubstr("operator_slowdown_per_byte_ns/attention"),
                                           HasSubstr("its rounds differ"))));
}

TEST(GpuCalibration, FewestCtasOfTheBest) {
  const GpuCalibrationSamples samples = plausible();
  EXPECT_THAT(choose_issues(samples.grid, samples.footprints), ElementsAre(kBulk));
}

TEST(GpuCalibration, AmongEqualMethodsTheListedOrderDecides) {
  const GpuCalibrationSamples samples = plausible();
  std::vector<WindowTimes> grid;
  for (const GpuFetch fetch : {GpuFetch::load, GpuFetch::prefetch_l2, GpuFetch::bulk_l2}) {
    for (const int64_t hold_ns : kRankHoldsNs) {
      // 2 % of the rate more for each: within the noise of the best.
      const double rate = kRate * (1 - 0.02 * static_cast<double>(fetch == GpuFetch::bulk_l2));
      grid.push_back(window({fetch, 8, 128, GpuEviction::normal}, hold_ns, 16 * kMiB, rate));
    }
  }
  std::vector<GpuFetch> order;
  for (const GpuIssue& issue : choose_issues(grid, samples.footprints)) {
    order.push_back(issue.fetch);
  }
  EXPECT_THAT(order, ElementsAre(GpuFetch::bulk_l2, GpuFetch::prefetch_l2, GpuFetch::load));
}

TEST(GpuCalibration, AMethodThatSavesNothingIsNoMethod) {
  const GpuCalibrationSamples samples = plausible();
  std::vector<WindowTimes> grid;
  for (const int64_t hold_ns : kRankHoldsNs) {
    grid.push_back(window(kBulk, hold_ns, 16 * kMiB, kRate / 100));
  }
  EXPECT_THAT(choose_issues(grid, samples.footprints), IsEmpty());
  EXPECT_THAT(choose_issues({}, {}), IsEmpty());
}

TEST(GpuCalibration, WithoutProtectionLastIsNotListed) {
  GpuCalibrationSamples samples = plausible();
  GpuIssue last = kBulk;
  last.eviction = GpuEviction::last;
  samples.ramps.push_back(ramp(last, StartWay::leaf, kRate));
  EXPECT_THAT(device_from(samples).methods, SizeIs(2));
  samples.evictions[1].read_ns = samples.evictions[0].read_ns;
  EXPECT_THAT(device_from(samples).methods, SizeIs(1));
}

TEST(GpuCalibration, WhereReadingCachedIsNoFasterNothingIsDividedByNothing) {
  GpuCalibrationSamples samples = plausible();
  for (auto* times : {&samples.footprints, &samples.references}) {
    for (FootprintTimes& one : *times) one.again_ns = one.cold_ns;
  }
  for (ArrivedTimes& one : samples.arrived) one.read_ns = Series(3, cold_ns(one.bytes));
  const DeviceModel device = device_from(samples);
  EXPECT_THAT(device.methods, IsEmpty());
  EXPECT_EQ(device.cache_budget_bytes, 0);
  EXPECT_NO_THROW(written_and_read(device));
}

TEST(GpuCalibration, WhatSavesNothingHasNoStart) {
  GpuCalibrationSamples samples = plausible();
  for (WindowTimes& window : samples.ramps[0].windows) {
    window.read_ns = cold_read_of(samples.references, window.bytes).cold_ns;
  }
  ASSERT_EQ(samples.ramps[1].way, StartWay::side_stream);  // which does save: a start over no rate
  const DeviceModel device = device_from(samples);
  EXPECT_THAT(device.methods, IsEmpty());
  EXPECT_NO_THROW(written_and_read(device));
}

TEST(GpuCalibration, APublishedFileGivesWhatOneGpuCannotMeasure) {
  DeviceModel device = device_from(plausible());
  EXPECT_EQ(device.flops_fp16_per_s, 0);
  EXPECT_THAT(device.collectives, IsEmpty());
  const double bandwidth = device.memory_bandwidth_bytes_per_s;
  DeviceModel published;
  published.kind = "gpu";
  published.name = "other";
  published.source = "published: somewhere";
  published.flops_fp16_per_s = 1e15;
  published.memory_bandwidth_bytes_per_s = 1;
  published.collectives = {{"allreduce", "nccl", 8, 9000, 1e11, 0.1, 1, 2}};
  add_published(device, published, "other.json");
  EXPECT_EQ(device.flops_fp16_per_s, 1e15);
  EXPECT_THAT(device.collectives, SizeIs(1));
  EXPECT_EQ(device.memory_bandwidth_bytes_per_s, bandwidth);
  EXPECT_THAT(device.notes,
              Contains(testing::AllOf(HasSubstr("not measured here"), HasSubstr("other.json"),
                                      HasSubstr("published: somewhere"))));
  published.kind = "cpu";
  EXPECT_THROW(check_published(published, "cpu.json"), Error);
}

TEST(GpuFits, ReadsHaveARampAndARate) {
  const ReadFit fit =
      fit_reads({{1000, 1200}, {2000, 1400}, {3000, 1600}, {4000, 1800}, {5000, 9999}});
  EXPECT_NEAR(fit.bandwidth_bytes_per_s, 5e9, 1);  // whatever one of five says
  EXPECT_NEAR(fit_reads({{1000, 1200}, {3000, 1600}}).time_ns(2000), 1400, 1e-6);
  EXPECT_EQ(fit_reads({{1000, 1200}}).bandwidth_bytes_per_s, 0);
  EXPECT_EQ(fit_reads({{1000, 1200}, {2000, 1100}}).bandwidth_bytes_per_s, 0);
  EXPECT_EQ(fit_reads({{1000, 1200}, {2000, 1200.0001}}).bandwidth_bytes_per_s, 0);
  EXPECT_EQ(fit_reads({}).bandwidth_bytes_per_s, 0);
}

RC_GTEST_PROP(GpuFits, TrailingIsUndone, ()) {
  const double hit = *rc::gen::inRange(1000, 9000);
  const double rate = hit * *rc::gen::inRange(1, 99) / 100.0;
  RC_ASSERT(std::fabs(without_trailing(rate * hit / (hit - rate), hit) - rate) < 1e-6 * hit);
}

// Whatever was measured, the file is one that the planner reads.
RC_GTEST_PROP(GpuCalibration, NoSamplesMakeAFileThatIsRefused, ()) {
  GpuCalibrationSamples samples = plausible();
  const auto disturb = [](Series& series) {
    for (double& value : series) value = *rc::gen::inRange(0, 100'000);
  };
  for (FootprintTimes& one : samples.references) disturb(one.cold_ns);
  for (ArrivedTimes& one : samples.arrived) disturb(one.read_ns);
  for (ArrivedTimes& one : samples.survival) disturb(one.read_ns);
  for (RampTimes& one : samples.ramps) {
    for (WindowTimes& each : one.windows) disturb(each.read_ns);
  }
  for (EvictionTimes& one : samples.evictions) disturb(one.read_ns);
  for (FootprintTimes& one : samples.footprints) disturb(one.again_ns);
  disturb(samples.memory_read_ns);
  disturb(samples.long_chain.step_ns);
  disturb(samples.link->beside_ns);
  for (const OperatorClass of : kOperatorClasses) {
    samples.operators.push_back(
        operator_times(of, *rc::gen::inRange(1, 1 << 24), Series(3), Series(3)));
    disturb(samples.operators.back().alone_ns);
    disturb(samples.operators.back().beside_ns);
  }
  const DeviceModel device = written_and_read(device_from(samples));
  for (size_t i = 1; i < device.survival.size(); ++i) {
    RC_ASSERT(device.survival[i].hit_fraction <= device.survival[i - 1].hit_fraction);
  }
}

}  // namespace
}  // namespace preserve
