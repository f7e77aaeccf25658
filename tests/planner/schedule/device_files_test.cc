// SPDX-License-Identifier: Apache-2.0
// The shipped device files and the script that makes their collective times. With
// PRESERVE_REAL_COLLECTIVES naming the folder of the measured tables, the fits are checked against
// them; the tables themselves are not shipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "common/output_file.h"
#include "common/split.h"
#include "common/stats.h"
#include "planner/schedule/collective_time.h"
#include "planner/schedule/device.h"
#include "tests/support/commands.h"
#include "tests/support/examples.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::run_program;

const std::string kFitCollectives = PRESERVE_SOURCE_DIR "/scripts/fit-collectives";

std::vector<fs::path> device_files() {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(test::kExamples + "devices")) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(DeviceFiles, EachLoadsAndIsPlausible) {
  std::vector<std::string> names;
  for (const fs::path& file : device_files()) {
    SCOPED_TRACE(file.filename().string());
    const DeviceModel device = load_device(file);
    names.push_back(device.name);
    EXPECT_EQ(device.name, file.stem());
    EXPECT_EQ(device.kind, "gpu");
    EXPECT_THAT(device.source, testing::StartsWith("published: "));
    EXPECT_GE(device.notes.size(), 4u) << "each figure says where it is from";
    EXPECT_GT(device.memory_bytes, 0);
    const double usable =
        static_cast<double>(device.cache_budget_bytes) / static_cast<double>(device.cache_bytes);
    EXPECT_GT(usable, 0.6);
    EXPECT_LT(usable, 0.8) << "0.67 to 0.74 of the nominal cache is what measurements found";
    EXPECT_GT(device.cache_read_bandwidth_bytes_per_s, device.memory_bandwidth_bytes_per_s);
    ASSERT_EQ(device.methods.size(), 1u);
    EXPECT_LE(device.methods[0].bandwidth_bytes_per_s, device.memory_bandwidth_bytes_per_s);
    for (size_t i = 1; i < device.survival.size(); ++i) {
      EXPECT_LT(device.survival[i].hit_fraction, device.survival[i - 1].hit_fraction);
    }
    EXPECT_GE(survival_at(device, static_cast<double>(device.cache_budget_bytes)), 0.95);
    EXPECT_EQ(survival_at(device, 2e9), 0);
    for (const CollectiveFit& fit : device.collectives) EXPECT_LT(fit.max_relative_error, 0.25);
  }
  EXPECT_THAT(names, testing::ElementsAre("a100-80g", "ascend-910b", "b200", "h100-sxm", "h200",
                                          "l40s", "rtx-pro-6000"));
}

// --- the script ----------------------------------------------------------------------------------

class FitCollectives : public testing::Test {
 protected:
  void SetUp() override {
    if (run_program({"python3", "--version"}).exit_code != 0) GTEST_SKIP() << "no python3 here";
  }

  test::Run fit(const std::string& table, const std::vector<std::string>& options) {
    std::ofstream(directory_ / "table.csv") << table;
    return run_program(test::words(kFitCollectives, "--library", "custom", options,
                                   (directory_ / "table.csv").string()));
  }

  test::TemporaryDirectory directory_;
};

// 4 us + bytes at 100 GB/s up to 64 KiB, then 10 us + bytes at 400 GB/s.
double two_lines_us(int64_t bytes) {
  const auto size = static_cast<double>(bytes);
  return bytes <= 65536 ? 4 + size / 100e3 : 10 + size / 400e3;
}

TEST_F(FitCollectives, FindsTheLinesAndTheirRanges) {
  std::ostringstream table;
  table << "num_gpus,message_size,op_name,kernel_source,allreduce_dtype,latency\n";
  for (int64_t elements = 1024; elements <= (1 << 20); elements *= 2) {
    table << "4," << elements << ",all_reduce,graph,bfloat16," << two_lines_us(2 * elements) / 1e3
          << "\n4," << elements << ",all_reduce,eager,bfloat16,1\n";
  }
  const test::Run run = succeeded(fit(table.str(), {"--kernel-source", "graph"}));
  const json entries = json::parse(run.out);
  ASSERT_EQ(entries.size(), 2u) << run.out;
  EXPECT_EQ(entries[0]["function"], "allreduce");
  EXPECT_EQ(entries[0]["ranks"], 4);
  EXPECT_EQ(entries[0]["min_bytes"], 2048);
  EXPECT_EQ(entries[0]["max_bytes"], 65536);
  EXPECT_NEAR(entries[0]["latency_ns"].get<double>(), 4000, 5);
  EXPECT_NEAR(entries[0]["bandwidth_bytes_per_s"].get<double>(), 100e9, 1e9);
  EXPECT_EQ(entries[1]["max_bytes"], 2 << 20);
  EXPECT_NEAR(entries[1]["latency_ns"].get<double>(), 10000, 10);
  EXPECT_NEAR(entries[1]["bandwidth_bytes_per_s"].get<double>(), 400e9, 4e9);
  EXPECT_LT(entries[1]["max_relative_error"].get<double>(), 0.01);
}

TEST_F(FitCollectives, ReadsTheOtherFormAndPoolsNeighbours) {
  std::ostringstream table;
  table << ",time_stats.all_reduce.median,num_workers,size,collective,devices_per_node\n";
  for (int64_t bytes = 4096; bytes <= (1 << 22); bytes = bytes * 3 / 2) {
    for (const double noise : {0.9, 1.0, 2.0}) {  // the median takes the middle one
      table << "0," << noise * (0.02 + static_cast<double>(bytes) / 200e6) << ",8," << bytes
            << ",all_reduce,8\n";
    }
    table << "0,99,8," << bytes << ",all_reduce,4\n";  // two nodes
  }
  const test::Run run = succeeded(fit(table.str(), {"--one-node"}));
  const json entries = json::parse(run.out);
  ASSERT_EQ(entries.size(), 1u) << run.out;
  EXPECT_NEAR(entries[0]["latency_ns"].get<double>(), 20'000, 20);
  EXPECT_NEAR(entries[0]["bandwidth_bytes_per_s"].get<double>(), 200e9, 1e9);
}

TEST_F(FitCollectives, RefusesWhatIsNoTable) {
  for (const auto& [table, says] :
       {std::pair("a,b\n1,2\n", "table.csv:2"), {"num_gpus,message_size\n", "no row"}}) {
    const test::Run run = fit(table, {});
    EXPECT_NE(run.exit_code, 0) << table;
    EXPECT_THAT(run.err, testing::HasSubstr(says));
  }
}

// --- against the real tables ---------------------------------------------------------------------

std::vector<std::map<std::string, std::string>> read_csv(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::string names, line;
  std::getline(file, names);
  const std::vector<std::string_view> header = split(names, ',');
  std::vector<std::map<std::string, std::string>> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string_view> cells = split(line, ',');
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < std::min(cells.size(), header.size()); ++i) {
      row[std::string(header[i])] = cells[i];
    }
  }
  return rows;
}

class RealTables : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("PRESERVE_REAL_COLLECTIVES");
    if (folder == nullptr) {
      GTEST_SKIP() << "PRESERVE_REAL_COLLECTIVES does not name the folder of measured tables";
    }
    folder_ = folder;
  }
  fs::path folder_;
};

struct Table {
  const char* device;
  const char* file;
  const char* shortest = "3";  // of fit-collectives
};
void PrintTo(const Table& table, std::ostream* out) {
  *out << table.file;
}

class RealCollectives : public RealTables, public testing::WithParamInterface<Table> {};

TEST_P(RealCollectives, FitsKeepTheErrorTheyState) {
  const auto& [name, table, shortest] = GetParam();
  const DeviceModel device = load_device(test::device_file(name));
  std::map<std::pair<int64_t, int64_t>, std::vector<double>> measured;  // ranks, bytes -> ns
  for (const auto& row : read_csv(folder_ / table)) {
    if (row.at("kernel_source") != "vLLM_custom_graph") continue;
    const int64_t bytes = 2 * std::stoll(row.at("message_size"));  // elements of bfloat16
    if (bytes <= (int64_t{1} << 26)) {
      measured[{std::stoll(row.at("num_gpus")), bytes}].push_back(std::stod(row.at("latency")) *
                                                                  1e6);
    }
  }
  ASSERT_GT(measured.size(), 30u);
  for (const auto& [key, times] : measured) {
    const auto [ranks, bytes] = key;
    double stated = -1;
    for (const CollectiveFit& fit : device.collectives) {
      if (fit.library == "custom" && fit.ranks == key.first && fit.min_bytes <= key.second &&
          key.second <= fit.max_bytes) {
        stated = fit.max_relative_error;
      }
    }
    ASSERT_GE(stated, 0) << ranks << " ranks, " << bytes << " bytes";
    const double fitted = collective_time(device, "allreduce", ranks, bytes).dur_ns;
    EXPECT_LE(std::fabs(fitted / median(times) - 1), stated)
        << ranks << " ranks, " << bytes << " bytes";
  }
}

TEST_P(RealCollectives, TheScriptMakesTheShippedFits) {
  if (run_program({"python3", "--version"}).exit_code != 0) GTEST_SKIP() << "no python3 here";
  const auto& [name, table, shortest] = GetParam();
  json made = json::array();
  for (const auto& [library, source, pieces] :
       {std::tuple("custom", "vLLM_custom_graph", shortest),
        std::tuple("custom-eager", "vLLM_custom_eager", "2")}) {
    const test::Run run =
        succeeded(run_program({kFitCollectives, "--library", library, "--kernel-source", source,
                               "--shortest", pieces, (folder_ / table).string()}));
    for (json& fit : json::parse(run.out)) made.push_back(std::move(fit));
  }
  const json file = json::parse(read_text_file(test::device_file(name)));
  json shipped = json::array();
  for (const json& fit : file["collectives"]) {
    if (fit["library"] != "nccl") shipped.push_back(fit);
  }
  EXPECT_EQ(made, shipped);
}

INSTANTIATE_TEST_SUITE_P(Tables, RealCollectives,
                         testing::Values(Table{"a100-80g", "a100_sxm_custom_allreduce_perf.csv"},
                                         Table{"b200", "b200_sxm_custom_allreduce_perf.csv", "2"},
                                         Table{"h100-sxm", "h100_sxm_custom_allreduce_perf.csv"},
                                         Table{"h200", "h200_sxm_custom_allreduce_perf.csv"}),
                         [](const auto& instance) {
                           std::string name = instance.param.device;
                           std::erase(name, '-');
                           return name;
                         });

// Another group measured NCCL, launch included, on the same kind of machine. Sizes taken for
// elements instead of bytes, or the reverse, would be off by two.
TEST_F(RealTables, AnotherMeasurementOfTheSameMachineAgrees) {
  const DeviceModel device = load_device(test::device_file("h100-sxm"));
  std::vector<double> ratios;
  for (const auto& row : read_csv(folder_ / "h100_dgx_all_reduce.csv")) {
    const int64_t bytes = std::stoll(row.at("size"));
    if (row.at("num_workers") != "8" || bytes < (8 << 20)) continue;
    ratios.push_back(collective_time(device, "allreduce", 8, bytes).dur_ns /
                     (std::stod(row.at("time_stats.all_reduce.median")) * 1e6));
  }
  ASSERT_GT(ratios.size(), 50u);
  EXPECT_NEAR(median(ratios), 1, 0.25);
}

}  // namespace
}  // namespace preserve
