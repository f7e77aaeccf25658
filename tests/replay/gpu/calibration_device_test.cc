// SPDX-License-Identifier: Apache-2.0
// Calibration finds the properties of simulated GPUs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/stats.h"
#include "tests/replay/gpu/small_gpu.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using namespace test;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

const DeviceMeasurement& measured(const DeviceModel& device, const std::string& name) {
  for (const DeviceMeasurement& one : device.measurements) {
    if (one.name == name) return one;
  }
  throw std::runtime_error("no measurement " + name);
}

bool has_measured(const DeviceModel& device, const std::string& beginning) {
  return std::any_of(device.measurements.begin(), device.measurements.end(),
                     [&](const DeviceMeasurement& one) { return one.name.starts_with(beginning); });
}

// What one of the random GPUs does best.
struct Preference {
  GpuFetch fetch = GpuFetch::bulk_l2;
  int ctas = 1;
  int64_t chunk_bytes = 128;
  double rate = 0;
};

struct RandomGpu {
  FakeGpuProperties properties;
  Preference best;
};

RandomGpu random_gpu(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto between = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const auto pick = [&](const auto& list) {
    return list[std::uniform_int_distribution<size_t>(0, std::size(list) - 1)(random)];
  };
  RandomGpu gpu{small_gpu(), {}};
  FakeGpuProperties& properties = gpu.properties;
  properties.cold_bytes_per_s = between(2.5e9, 11e9);
  properties.hot_bytes_per_s = properties.cold_bytes_per_s * between(2, 6);
  properties.effective_l2_bytes = kL2 * pick(std::array{9, 10, 12, 13, 16}) / 16;
  properties.launch_gap_ns = std::llround(between(500, 1500));
  properties.fork_ns = pick(std::array{0, 250, 700});
  properties.leaf_start_ns =
      properties.launch_gap_ns + properties.fork_ns + std::llround(between(0, 1500));
  properties.side_stream_start_ns = properties.leaf_start_ns + std::llround(between(500, 2000));
  properties.launch_order_start_ns = std::llround(between(0, 2000));
  properties.link_slowdown = between(1, 1.5);
  properties.chase_slowdown = between(1, 1.5);
  properties.chase_hit_ns = between(100, 300);
  properties.chase_miss_ns = properties.chase_hit_ns + between(100, 500);
  std::array methods{GpuFetch::bulk_l2, GpuFetch::prefetch_l2, GpuFetch::load};
  std::shuffle(methods.begin(), methods.end(), random);
  Preference& best = gpu.best;
  best = {methods[0], pick(std::array{1, 2, 4, 8, 16, 32}),
          methods[0] == GpuFetch::bulk_l2 ? pick(std::array{128, 1024, 8192, 65536}) : 128,
          properties.cold_bytes_per_s * between(0.6, 0.9)};
  properties.prefetch_bytes_per_s = [best](GpuFetch fetch, int ctas, int64_t chunk_bytes) {
    return best.rate * (fetch == best.fetch ? 1 : 0.6) *
           std::min(1.0, static_cast<double>(ctas) / best.ctas) *
           (chunk_bytes == best.chunk_bytes ? 1 : 0.7);
  };
  return gpu;
}

TEST(GpuCalibrationDevice, FindsThePropertiesOfRandomGpus) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    const RandomGpu random = random_gpu(seed);
    const FakeGpuProperties& is = random.properties;
    const DeviceModel device = calibrate(is);
    EXPECT_EQ(device.name, is.facts.name);
    EXPECT_EQ(device.kind, "gpu");
    EXPECT_EQ(device.cache_bytes, kL2);
    EXPECT_EQ(device.memory_bytes, is.facts.memory_bytes);
    EXPECT_NEAR(device.memory_bandwidth_bytes_per_s / is.cold_bytes_per_s, 1, 0.01);
    EXPECT_NEAR(device.cache_read_bandwidth_bytes_per_s / is.hot_bytes_per_s, 1, 0.02);
    EXPECT_EQ(device.cache_budget_bytes, is.effective_l2_bytes);
    const double block_ns = test::kBlock * 1e9 / is.cold_bytes_per_s;
    EXPECT_NEAR(device.op_floor_ns, is.launch_gap_ns + 4096e9 / is.hot_bytes_per_s, 2);

    ASSERT_FALSE(device.methods.empty());
    const PrefetchMethod& best = device.methods.front();
    EXPECT_EQ(best.name, word_of(kGpuFetchWords, random.best.fetch));
    EXPECT_EQ(best.ctas, random.best.ctas);
    EXPECT_EQ(best.chunk_bytes, random.best.chunk_bytes);
    EXPECT_EQ(best.placement, "spare");
    EXPECT_EQ(best.eviction, "normal");
    EXPECT_NEAR(best.bandwidth_bytes_per_s / random.best.rate, 1, 0.08);
    EXPECT_NEAR(best.hit_read_bandwidth_bytes_per_s / is.hot_bytes_per_s, 1, 0.02);
    EXPECT_NEAR(device.window_cost_ns, is.fork_ns, 2);
    // After the stand-in's beginning, which is later than a launch gap after what both wait for.
    const double leaf_ns = static_cast<double>(is.leaf_start_ns - is.launch_gap_ns - is.fork_ns);
    const double within_ns = 300 + 2 * block_ns;
    EXPECT_NEAR(static_cast<double>(best.start_latency_ns), leaf_ns, within_ns);
    const std::string issue = fmt::format(".{}.{}x{}", best.name, best.ctas, best.chunk_bytes);
    EXPECT_NEAR(measured(device, "start.leaf" + issue).median, leaf_ns, within_ns);
    EXPECT_NEAR(measured(device, "start.launch_order" + issue).median,
                static_cast<double>(is.launch_order_start_ns), within_ns);
    EXPECT_NEAR(measured(device, "start.side_stream" + issue).median,
                static_cast<double>(is.side_stream_start_ns - is.launch_gap_ns), within_ns);

    EXPECT_NEAR(measured(device, "chase.hit").median, is.chase_hit_ns, 1);
    EXPECT_NEAR(measured(device, "chase.miss").median, is.chase_miss_ns, 1);
    EXPECT_THAT(measured(device, "chase.hit_slowdown").median,
                testing::AllOf(testing::Ge(1), testing::Le(is.chase_slowdown + 0.01)));
    EXPECT_NEAR(measured(device, "leaf.launch").median,
                static_cast<double>(is.host_launch_per_node_ns), 0.1);
    EXPECT_NEAR(device.slowdown_per_byte_ns * kL2 / 2,
                measured(device, "link.beside").median - measured(device, "link.alone").median, 10);
    EXPECT_EQ(device.slowdown_per_byte_ns > 0, is.link_slowdown > 1);
  }
}

TEST(GpuCalibrationDevice, HowMuchPrefetchesSlowOperatorsBesideThem) {
  FakeGpuProperties properties = small_gpu();
  properties.facts.sms = 16;  // so that few blocks read a part of what the memory gives
  for (const double slowdown : {1.0, 1.25, 1.6}) {
    SCOPED_TRACE(slowdown);
    properties.few_blocks_slowdown = slowdown;
    const DeviceModel device = calibrate(properties);
    ASSERT_FALSE(device.methods.empty());
    for (const PrefetchMethod& method : device.methods) {
      const double byte_ns = 1e9 / method.bandwidth_bytes_per_s;
      const OperatorSlowdowns& slowdowns = method.operator_slowdown_per_byte_ns;
      // While bytes move, so much of the time is lost.
      const double lost = 1 - 1 / slowdown, within = 0.05;
      EXPECT_NEAR(slowdowns[OperatorClass::product].value_or(-1) / byte_ns, 0, within);
      EXPECT_NEAR(slowdowns[OperatorClass::attention].value_or(-1) / byte_ns, lost, within);
      EXPECT_NEAR(slowdowns[OperatorClass::small].value_or(-1) / byte_ns, lost, within);
      EXPECT_NE(find_interval(device, slowdown_figure(method, OperatorClass::small)), nullptr);
    }
  }
}

TEST(GpuCalibrationDevice, NoiseStaysOutOfTheMedians) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    RandomGpu random = random_gpu(seed);
    random.properties.noise = 0.02;
    random.properties.seed = seed;
    FakeGpu gpu(random.properties);
    GpuCalibrateOptions options = few_rounds(gpu);
    options.most_rounds = 9;
    const GpuCalibrationSamples samples = measure_gpu(gpu, options);
    const DeviceModel device = device_from(samples);
    EXPECT_EQ(samples.first.counted, 9);
    EXPECT_NEAR(device.memory_bandwidth_bytes_per_s / random.properties.cold_bytes_per_s, 1, 0.03);
    EXPECT_NEAR(device.cache_read_bandwidth_bytes_per_s / random.properties.hot_bytes_per_s, 1,
                0.06);
    ASSERT_FALSE(device.methods.empty());
    EXPECT_EQ(device.methods.front().name, word_of(kGpuFetchWords, random.best.fetch));
    EXPECT_NEAR(device.methods.front().bandwidth_bytes_per_s / random.best.rate, 1, 0.15);
    EXPECT_GT(measured(device, "memory.read").mad, 0);
    EXPECT_EQ(measured(device, "memory.read").n, 9);
  }
}

TEST(GpuCalibrationDevice, TheHalvesOfASplitCache) {
  FakeGpuProperties properties = small_gpu();
  properties.far_bytes_per_s = 12e9;
  const DeviceModel device = calibrate(properties);
  for (const char* same : {"half.32768.read1_after1", "half.32768.read2_after2"}) {
    EXPECT_NEAR(measured(device, same).median, 8e9, 1e8);  // half of the SMs
  }
  for (const char* other : {"half.32768.read1_after2", "half.32768.read2_after1"}) {
    EXPECT_NEAR(measured(device, other).median, 6e9, 1e8);
  }
  properties.far_bytes_per_s = 0;
  EXPECT_FALSE(has_measured(calibrate(properties), "half."));
}

TEST(GpuCalibrationDevice, WhatEvictLastProtects) {
  FakeGpuProperties properties = small_gpu();
  const DeviceModel device = calibrate(properties);
  EXPECT_NEAR(measured(device, "evict.default.last").median, 1, 0.01);
  EXPECT_NEAR(measured(device, "evict.largest.last").median, 1, 0.01);
  EXPECT_NEAR(measured(device, "evict.zero.last").median, 0, 0.01);
  EXPECT_NEAR(measured(device, "evict.default.normal").median, 0, 0.01);
  EXPECT_NEAR(measured(device, "set_aside.default").median, static_cast<double>(kL2) / 4,
              1);  // five digits
  ASSERT_GE(device.methods.size(), 2u);
  EXPECT_EQ(device.methods[0].eviction, "normal");
  EXPECT_EQ(device.methods[1].eviction, "last") << "worth trying";
  EXPECT_EQ(device.methods[1].name, device.methods[0].name);
  EXPECT_NEAR(device.methods[1].bandwidth_bytes_per_s / device.methods[0].bandwidth_bytes_per_s, 1,
              0.02);

  properties.facts.persisting_l2_default_bytes = 0;
  const DeviceModel other = calibrate(properties);
  EXPECT_NEAR(measured(other, "evict.default.last").median, 0, 0.01);
  for (const PrefetchMethod& method : other.methods) EXPECT_EQ(method.eviction, "normal");

  properties.protected_without_set_aside_bytes = kL2 / 4;
  EXPECT_NEAR(measured(calibrate(properties), "evict.zero.last").median, 1, 0.01);

  properties.facts.persisting_l2_max_bytes = 0;
  EXPECT_FALSE(has_measured(calibrate(properties), "evict."));
}

TEST(GpuCalibrationDevice, TheSetAsideIsAsItWasFound) {
  FakeGpu gpu(small_gpu());
  calibrate(gpu);
  EXPECT_EQ(gpu.set_aside_bytes(), kL2 / 4);
}

TEST(GpuCalibrationDevice, WithoutBulkPrefetchesTheOthersAreTried) {
  FakeGpuProperties properties = small_gpu();
  properties.facts.compute_major = 8;
  const DeviceModel device = calibrate(properties);
  ASSERT_FALSE(device.methods.empty());
  EXPECT_EQ(device.methods.front().name, "prefetch_l2");
}

TEST(GpuCalibrationDevice, WherePrefetchingDoesNothingThereIsNoMethod) {
  FakeGpuProperties properties = small_gpu();
  properties.prefetch_bytes_per_s = [](GpuFetch, int, int64_t) { return 1e6; };
  FakeGpu gpu(properties);
  const GpuCalibrationSamples samples = measure_gpu(gpu, few_rounds(gpu));
  EXPECT_EQ(samples.second.counted, 0);
  const DeviceModel device = device_from(samples);
  EXPECT_THAT(device.methods, IsEmpty());
  EXPECT_EQ(device.cache_budget_bytes, 0);
  EXPECT_THAT(device.notes, Contains(HasSubstr("no way of prefetching")));
}

TEST(GpuCalibrationDevice, ThrottledRoundsDoNotCount) {
  FakeGpu gpu(small_gpu());
  int runs = 0;
  // All runs of the second round and some others are 1.5 times as slow.
  gpu.before_run = [&](int) {
    ++runs;
    gpu.slow_down(runs > 300 && runs < 500 ? 1.5 : 1);
  };
  GpuCalibrateOptions options = few_rounds(gpu);
  options.most_rounds = 8;
  const GpuCalibrationSamples samples = measure_gpu(gpu, options);
  EXPECT_GT(samples.first.throttled, 0);
  EXPECT_FALSE(samples.first.only_throttled);
  EXPECT_EQ(samples.first.counted + samples.first.throttled, 8);
  EXPECT_EQ(samples.first.probe_ns.size(), static_cast<size_t>(samples.first.counted));
  EXPECT_EQ(samples.second.throttled, 0);
  for (const FootprintTimes& one : samples.footprints) {
    ASSERT_EQ(one.cold_ns.size(), static_cast<size_t>(samples.first.counted));
    EXPECT_NEAR(median(one.cold_ns), static_cast<double>(one.bytes) / 4, 50);
  }
  EXPECT_THAT(device_from(samples).notes, Contains(HasSubstr("throttled")));
  EXPECT_THAT(clock_warnings(samples), IsEmpty());
}

TEST(GpuCalibrationDevice, AlwaysThrottledIsSaid) {
  FakeGpuProperties properties = small_gpu();
  properties.state.throttle = "power cap";
  FakeGpu gpu(properties);
  GpuCalibrateOptions options = few_rounds(gpu);
  options.least_rounds = options.most_rounds = 3;
  const GpuCalibrationSamples samples = measure_gpu(gpu, options);
  EXPECT_TRUE(samples.first.only_throttled);
  EXPECT_EQ(samples.first.counted, 3);
  EXPECT_THAT(clock_warnings(samples), testing::SizeIs(2));
  EXPECT_THAT(clock_warnings(samples), Contains(HasSubstr("power cap")));
  EXPECT_THAT(device_from(samples).notes, Contains(HasSubstr("power cap")));
}

TEST(GpuCalibrationDevice, TheTimeLimitHolds) {
  const auto took_ns = [](int64_t limit_ns, int* rounds) {
    FakeGpu gpu(small_gpu());
    GpuCalibrateOptions options = few_rounds(gpu);
    options.least_rounds = 3;
    options.most_rounds = 1000;
    options.time_limit_ns = limit_ns;
    const GpuCalibrationSamples samples = measure_gpu(gpu, options);
    *rounds = samples.first.counted;
    EXPECT_NEAR(samples.took_s * 1e9, static_cast<double>(gpu.monotonic_ns()), 1e6);
    return gpu.monotonic_ns();
  };
  int rounds = 0;
  const int64_t least_ns = took_ns(0, &rounds);
  EXPECT_EQ(rounds, 3);
  const int64_t limit_ns = 3 * least_ns;
  EXPECT_LT(took_ns(limit_ns, &rounds), limit_ns + least_ns / 2);
  EXPECT_GT(rounds, 5);
}

TEST(GpuCalibrationDevice, LeavesNoGraphsBehind) {
  FakeGpu gpu(small_gpu());
  std::vector<int> graphs;
  gpu.before_run = [&](int graph) { graphs.push_back(graph); };
  calibrate(gpu);
  ASSERT_GT(graphs.size(), 500u);
  for (const int graph : graphs) EXPECT_THROW(gpu.drop(graph), Error);
  EXPECT_EQ(gpu.allocated_bytes(), calibration_bytes(gpu.facts()));
}

// The consumer must never wait for the prefetch that it is to profit from, and whatever is called
// cold must come after several L2s of other bytes.
TEST(GpuCalibrationDevice, NoConsumerOfAWindowWaitsForItsPrefetch) {
  FakeGpu gpu(small_gpu());
  int windows = 0;
  gpu.before_run = [&](int number) {
    const GpuGraph& graph = gpu.graph(number);
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const GpuNode& node = graph.nodes[i];
      if (node.kind != GpuNodeKind::prefetch || node.ranges[0].bytes <= 4096) continue;
      EXPECT_GE(graph.nodes[0].ranges[0].bytes, 4 * kL2);
      EXPECT_TRUE(graph.nodes[0].after.empty());
      if (node.after != std::vector<int>{0} && !node.with_start_of) continue;
      bool held = false;
      for (const GpuNode& other : graph.nodes) held |= other.op == 0 && other.hold_ns > 0;
      if (!held || graph.ops != 2) continue;
      ++windows;
      for (const GpuNode& other : graph.nodes) {
        EXPECT_THAT(other.after, testing::Not(Contains(static_cast<int>(i))));
      }
    }
  };
  calibrate(gpu);
  EXPECT_GT(windows, 200);
}

TEST(GpuCalibrationDevice, OtherBytesThanBeforeAreFaultyMemory) {
  FakeGpu gpu(small_gpu());
  int runs = 0;
  GpuAddress data = 0;
  gpu.before_run = [&](int graph) {
    if (data == 0) data = gpu.graph(graph).nodes[0].ranges[0].address;
    if (++runs == 700) gpu.corrupt(data);
  };
  EXPECT_THAT([&] { calibrate(gpu); }, fails_with(ErrorKind::internal, HasSubstr("faulty memory")));
}

TEST(GpuCalibrationDevice, RefusesWhatCannotBeMeasured) {
  FakeGpuProperties properties = small_gpu();
  properties.facts.mig = true;
  EXPECT_THAT([&] { calibrate(properties); }, fails_with(ErrorKind::input, HasSubstr("MIG")));

  properties = small_gpu();
  properties.facts.free_bytes = test::kMiB;
  EXPECT_THAT([&] { calibrate(properties); },
              fails_with(ErrorKind::input,
                         testing::AllOf(HasSubstr("1.8 MiB"), HasSubstr("1.0 MiB are free"))));

  properties = small_gpu();
  properties.facts.l2_bytes = 0;
  EXPECT_THAT([&] { calibrate(properties); },
              fails_with(ErrorKind::input, HasSubstr("nothing to prefetch into")));
}

TEST(GpuCalibrationDevice, ADriverWithoutStartEdgesIsCalibratedNevertheless) {
  FakeGpuProperties properties = small_gpu();
  properties.takes_start_edges = false;
  const DeviceModel device = calibrate(properties);
  EXPECT_FALSE(device.methods.empty());
  EXPECT_FALSE(has_measured(device, "start.launch_order."));
  EXPECT_TRUE(has_measured(device, "start.leaf."));
  EXPECT_TRUE(has_measured(device, "start.side_stream."));
  EXPECT_THAT(device.notes, Contains(HasSubstr("no edge from the start of a node")));
}

TEST(GpuCalibrationDevice, WhatIsOddIsNoted) {
  FakeGpuProperties good = small_gpu();
  good.facts.host_link_bytes_per_s = good.host_link_bytes_per_s;
  const std::vector<std::string> notes = calibrate(good).notes;
  FakeGpuProperties late = good, cached = good, slow = good;
  late.launch_order_start_ns = 1'000'000;  // longer than any window
  cached.facts.host_link_bytes_per_s /= 4;
  slow.host_launch_ns = 1'000'000;
  const struct {
    const char* odd;
    const FakeGpuProperties& gpu;
    std::string of, said;
  } all[] = {{"start edges that wait for the end", late, "launch-order", " edges do not"},
             {"transfers faster than the link", cached, "cannot have used it", ""},
             {"a processor slower than the GPU", slow, "the processor's", ": it takes 1"}};
  for (const auto& [odd, gpu, of, said] : all) {
    EXPECT_THAT(notes, testing::Not(Contains(HasSubstr(of)))) << odd;
    EXPECT_THAT(calibrate(gpu).notes, Contains(HasSubstr(of + said))) << odd;
  }
}

TEST(GpuCalibrationDevice, ABusyGpuIsNoted) {
  FakeGpuProperties properties = small_gpu();
  properties.state.other_pids = {4711, 4712};
  properties.state.utilisation_percent = 60;
  const DeviceModel device = calibrate(properties);
  EXPECT_THAT(device.notes,
              Contains(HasSubstr("other processes compute on the GPU (pid 4711, 4712)")));
  EXPECT_THAT(device.notes, Contains(HasSubstr("60 % busy")));
  EXPECT_THAT(busy_sentences({}), Contains(HasSubstr("NVML")));
  GpuState idle;
  idle.sm_clock_mhz = 1980;
  EXPECT_THAT(busy_sentences(idle), IsEmpty());
}

}  // namespace
}  // namespace preserve
