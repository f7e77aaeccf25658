// SPDX-License-Identifier: Apache-2.0
// device.json: what is read back, what is refused and how, the survival curve.
#include "planner/schedule/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "common/error.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;

DeviceModel sample() {
  DeviceModel device;
  device.name = "box";
  device.kind = "cpu";
  device.source = "measured";
  device.ranks = 2;
  device.cache_bytes = 32 << 20;
  device.cache_budget_bytes = 8 << 20;
  device.memory_bandwidth_bytes_per_s = 2e10;
  device.memory_bandwidth_low_bytes_per_s = 1.9e10;
  device.cache_read_bandwidth_bytes_per_s = 6e10;
  device.slowdown_per_byte_ns = 0.001;
  device.op_floor_ns = 300;
  device.flops_fp16_per_s = 1e12;
  device.survival = {{1 << 20, 1.0}, {8 << 20, 0.5}, {16 << 20, 0.0}};
  device.methods = {{"load", "consumer", 1.5e10, 400, 5e10, 4096, 0, ""},
                    {"bulk_l2", "spare", 1.6e10, 300, 5e10, 8192, 16, "last"}};
  device.collectives = {{"allreduce", "mpi", 2, 1500, 1e9, 0.1, 8, 65536}};
  device.operators = {{"gemm",
                       "fp16",
                       "engine",
                       "1.0",
                       "kernel",
                       "a table",
                       100,
                       0.02,
                       0.1,
                       3600,
                       2e10,
                       {{"m", {1}}, {"n", {64, 4096}}, {"k", {64}}},
                       {1.5, 0.5}}};
  device.measurements = {{"start.leaf", "ns", 812.5, 3.25, 9, "prefetch during a stand-in"},
                         {"leaves.slope", "ns", -0.5, 0, 1, ""}};
  device.intervals = {{"cache_budget_bytes", 6 << 20, 9 << 20, 40},
                      {"methods/load/consumer/bandwidth_bytes_per_s", 1.45e10, 1.6e10, 40}};
  device.verdict = "unsteady";
  device.verdict_reason = "the budget lies between 6 and 9 MiB";
  device.notes = {"n=5"};
  return device;
}

class DeviceFile : public testing::Test {
 protected:
  DeviceModel read(const std::string& text) const {
    std::ofstream(path()) << text;
    return load_device(path());
  }
  std::string error_of(const std::string& text) const {
    try {
      read(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_THAT(error.what(), HasSubstr(path().string()));
      return error.what();
    }
    return "accepted";
  }
  std::string error_after(const std::string& from, const std::string& to,
                          std::string text = to_json(sample())) const {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return error_of(text.replace(at, from.size(), to));
  }
  void expect_refused(const std::string& from, const std::string& to,
                      const std::string& says) const {
    EXPECT_THAT(error_after(from, to), HasSubstr(says)) << to;
  }
  std::filesystem::path path() const { return folder_ / "device.json"; }

  test::TemporaryDirectory folder_;
};

TEST_F(DeviceFile, NewerVersionsAreRefusedNamingBoth) {
  for (const std::string version : {"1.3", "2.0"}) {
    EXPECT_THAT(error_after("\"1.2\"", '"' + version + '"'),
                testing::AllOf(HasSubstr("device version " + version), HasSubstr("up to 1.2")));
  }
  expect_refused("\"1.2\"", "\"one\"", "invalid version 'one'");
  EXPECT_THAT(error_after("\"1.2\"", "\"1." + std::string(300'000, '0') + "2\""),
              HasSubstr("at /version"));
}

TEST_F(DeviceFile, RoundTrips) {
  EXPECT_EQ(to_json(read(to_json(sample()))), to_json(sample()));
}

TEST_F(DeviceFile, KeepsWhatWasMeasuredBesides) {
  const DeviceModel device = read(to_json(sample()));
  ASSERT_EQ(device.methods.size(), 2u);
  EXPECT_EQ(device.methods[0].eviction, "");
  EXPECT_EQ(device.methods[1].eviction, "last");
  ASSERT_EQ(device.measurements.size(), 2u);
  EXPECT_EQ(device.measurements[0].name, "start.leaf");
  EXPECT_EQ(device.measurements[0].unit, "ns");
  EXPECT_EQ(device.measurements[0].median, 812.5);
  EXPECT_EQ(device.measurements[0].mad, 3.25);
  EXPECT_EQ(device.measurements[0].n, 9);
  EXPECT_EQ(device.measurements[0].note, "prefetch during a stand-in");
  EXPECT_EQ(device.measurements[1].median, -0.5);
}

TEST_F(DeviceFile, ReadsFilesOfTheFirstVersion) {
  std::string text = to_json(sample());
  text.replace(text.find("\"1.2\""), 5, "\"1.0\"");
  const size_t begin = text.find("  \"measurements\"");
  text.erase(begin, text.find("  \"notes\"") - begin);
  EXPECT_TRUE(read(text).measurements.empty());
}

TEST_F(DeviceFile, KeepsWhatSlowsOperators) {
  EXPECT_THAT(to_json(sample()), testing::Not(HasSubstr("operator_slowdown")));
  DeviceModel device = sample();
  device.methods[1].operator_slowdown_per_byte_ns[OperatorClass::attention] = 2.5e-5;
  device.methods[1].operator_slowdown_per_byte_ns[OperatorClass::small] = 0;
  const std::string text = to_json(device);
  const DeviceModel found = read(text);
  EXPECT_EQ(to_json(found), text);
  EXPECT_FALSE(found.methods[0].operator_slowdown_per_byte_ns.any());
  const OperatorSlowdowns& slowdowns = found.methods[1].operator_slowdown_per_byte_ns;
  EXPECT_EQ(slowdowns[OperatorClass::attention], 2.5e-5);
  EXPECT_EQ(slowdowns[OperatorClass::small], 0);  // measured, and nothing
  EXPECT_EQ(slowdowns[OperatorClass::product], std::nullopt);
  const auto refused = [&](const char* value) { return error_after("2.5e-05", value, text); };
  for (const char* value : {"-1e-9", "1001", "null"}) {
    EXPECT_THAT(refused(value), HasSubstr("/methods/1/operator_slowdown_per_byte_ns/attention"))
        << value;
  }
  for (const char* value : {"NaN", "1e999"}) {
    EXPECT_THAT(refused(value), HasSubstr("is not JSON")) << value;
  }
  EXPECT_THAT(refused("0, \"fast\": 0"), HasSubstr("/methods/1/operator_slowdown_per_byte_ns"));
}

TEST_F(DeviceFile, RefusesMeasurementsThatAreNone) {
  expect_refused("812.5", "1e19", "/measurements/0");
  expect_refused("812.5", "1e999", "is not JSON");
  expect_refused("812.5", "\"fast\"", "/measurements/0");
  expect_refused("3.25", "-3.25", "/measurements/0");
  expect_refused("\"n\": 9", "\"n\": 0", "/measurements/0");
  expect_refused("\"n\": 9", "\"n\": 9.5", "/measurements/0");
  expect_refused("\"unit\": \"ns\"", "\"unit\": \"furlong\"", "/measurements/0");
  expect_refused("\"start.leaf\"", "\"\"", "/measurements/0");
  expect_refused("\"eviction\": \"last\"", "\"eviction\": \"never\"", "/methods/1");
}

TEST_F(DeviceFile, RefusesWhatIsNotADevice) {
  EXPECT_THAT(error_of(""), HasSubstr("is not JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("not a device file"));
  EXPECT_THAT(error_of("{\"schema\": 3}"), HasSubstr("not a device file"));
  EXPECT_THAT(error_of("{\"schema\": \"preserve/device\", \"version\": \"1.2\"}"),
              HasSubstr("Missing required property"));
}

TEST_F(DeviceFile, NamesThePlaceOfAWrongValue) {
  for (const char* value : {"NaN", "1e999"}) expect_refused("20000000000.0", value, "is not JSON");
  for (const char* value : {"0", "-5", "null"}) {
    expect_refused("20000000000.0", value, "/memory_bandwidth_bytes_per_s");
  }
  expect_refused("\"consumer\"", "\"somewhere\"", "/methods/0/placement");
  expect_refused("8388608,", "99999999999,", "/cache_budget_bytes");
  expect_refused("33554432", "0", "/cache_bytes");
  expect_refused("16777216", "1024", "/survival/2");
  expect_refused("\"hit_fraction\": 0.5", "\"hit_fraction\": 1.5", "/survival/1");
}

TEST(Survival, FollowsTheCurve) {
  const DeviceModel device = sample();
  EXPECT_DOUBLE_EQ(survival_at(device, 0), 1.0);
  EXPECT_DOUBLE_EQ(survival_at(device, 4.5 * (1 << 20)), 0.75);
  EXPECT_DOUBLE_EQ(survival_at(device, 8 << 20), 0.5);
  EXPECT_DOUBLE_EQ(survival_at(device, 1e12), 0.0);
}

TEST(Survival, IsACliffWithoutACurve) {
  DeviceModel device = sample();
  device.survival.clear();
  EXPECT_DOUBLE_EQ(survival_at(device, 8 << 20), 1.0);
  EXPECT_DOUBLE_EQ(survival_at(device, (8 << 20) + 1), 0.0);
}

TEST_F(DeviceFile, AnIntervalThatEndsBeforeItBeginsIsRefused) {
  expect_refused("\"low\": 6291456", "\"low\": 16291456", "/intervals");
}

TEST(CarefulDevice, TakesTheEndsThatPromiseLess) {
  std::vector<std::string> said;
  const DeviceModel careful = careful_device(sample(), said);
  EXPECT_EQ(careful.cache_budget_bytes, 6 << 20);
  EXPECT_EQ(careful.methods[0].bandwidth_bytes_per_s, 1.45e10);
  EXPECT_EQ(careful.methods[1].bandwidth_bytes_per_s, 1.6e10);  // has no interval
  EXPECT_EQ(careful.slowdown_per_byte_ns, sample().slowdown_per_byte_ns);
  ASSERT_EQ(said.size(), 1U);  // the rate moved by less than a tenth
  EXPECT_THAT(said[0],
              testing::AllOf(HasSubstr("cache_budget_bytes 6.0 MiB"), HasSubstr("9.0 MiB")));
}

TEST(CarefulDevice, CostsCountAtTheirHighEnd) {
  DeviceModel device = sample();
  device.intervals = {{"slowdown_per_byte_ns", 0.0005, 0.002, 9},
                      {"window_cost_ns", 0, 1500, 9},
                      {"methods/bulk_l2/spare/operator_slowdown_per_byte_ns/small", 0, 3e-5, 9},
                      {"methods/bulk_l2/spare/operator_slowdown_per_byte_ns/product", 0, 1, 9}};
  device.methods[1].operator_slowdown_per_byte_ns[OperatorClass::small] = 2e-5;
  std::vector<std::string> said;
  const DeviceModel careful = careful_device(device, said);
  EXPECT_EQ(careful.slowdown_per_byte_ns, 0.002);
  EXPECT_EQ(careful.window_cost_ns, 1500);
  EXPECT_EQ(careful.methods[1].operator_slowdown_per_byte_ns[OperatorClass::small], 3e-5);
  // An interval without a figure makes none.
  EXPECT_FALSE(careful.methods[1].operator_slowdown_per_byte_ns[OperatorClass::product]);
}

}  // namespace
}  // namespace preserve
