// SPDX-License-Identifier: Apache-2.0
// Times of generated steps against steps that others measured, and of operators against rows that
// were held out of the fit. With PRESERVE_REAL_OPERATORS naming the folder of the measured operator
// tables, those are fitted anew without every third row; the tables themselves are not shipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "common/stats.h"
#include "planner/schedule/collective_time.h"
#include "planner/schedule/operator_time.h"
#include "planner/workload/operator_times.h"
#include "planner/workload/workload_options.h"
#include "tests/planner/workload/examples.h"
#include "tests/support/errors.h"
#include "tests/support/exits.h"

namespace preserve {
namespace {

using test::device_file;
using test::example_device;
using test::fails_with;
using test::keys_of;
using test::model_of;
using test::on_h100;
namespace fs = std::filesystem;

const std::string kMakePresets = PRESERVE_SOURCE_DIR "/scripts/make-device-presets";

// --- whole steps ---------------------------------------------------------------------------------

const std::string kLlama2Small = keys_of("llama", {4096, 11008, 32, 32, 32000});
const std::string kLlama2Large = keys_of("llama", {8192, 28672, 80, 64, 32000, 8});
const std::string kLlama3Small = keys_of("llama", {4096, 14336, 32, 32, 128256, 8});
const std::string kLlama3Large = keys_of("llama", {8192, 28672, 80, 64, 128256, 8});

struct MeasuredStep {
  const char* source;
  std::string model;
  const char* device;
  int64_t ranks, batch, context;
  WeightType type;
  double engine_overhead;
  double ms;
};

const MeasuredStep kMeasured[] = {
    // pytorch-labs/gpt-fast, README
    {"gpt-fast", kLlama2Small, "a100-80g", 1, 1, 100, WeightType::fp16, 1, 9.53},
    {"gpt-fast", kLlama2Small, "a100-80g", 2, 1, 100, WeightType::fp16, 1, 5.92},
    {"gpt-fast", kLlama2Small, "a100-80g", 4, 1, 100, WeightType::fp16, 1, 3.94},
    {"gpt-fast", kLlama2Small, "a100-80g", 8, 1, 100, WeightType::fp16, 1, 3.04},
    {"gpt-fast", kLlama2Large, "a100-80g", 2, 1, 100, WeightType::fp16, 1, 46.9},
    {"gpt-fast", kLlama2Large, "a100-80g", 4, 1, 100, WeightType::fp16, 1, 26.3},
    {"gpt-fast", kLlama2Large, "a100-80g", 8, 1, 100, WeightType::fp16, 1, 16.0},
    // NVIDIA NIM for LLMs, benchmark pages: 5000 in, 500 out; 500 in, 2000 out
    {"NIM", kLlama3Large, "h100-sxm", 2, 1, 5250, WeightType::fp8, 1, 18.58},
    {"NIM", kLlama3Large, "h100-sxm", 2, 1, 1500, WeightType::fp8, 1, 18.91},
    // vLLM nightly benchmark, buildkite 9515: 32 in, 128 out, prefill included
    {"vLLM", kLlama3Large, "h200", 4, 8, 96, WeightType::fp16, 1.4, 16.23},
    {"vLLM", kLlama3Small, "h200", 1, 8, 96, WeightType::fp16, 1.4, 6.51},
    // TensorRT-LLM build log: 128 in, 128 and 2048 out
    {"TensorRT-LLM", kLlama2Small, "h100-sxm", 1, 1, 192, WeightType::fp16, 1.25, 6.75},
    {"TensorRT-LLM", kLlama2Small, "h100-sxm", 1, 1, 1152, WeightType::fp16, 1.25, 7.14},
};

TEST(MeasuredSteps, AreMetWithin15Percent) {
  for (const MeasuredStep& step : kMeasured) {
    const WorkloadSpec spec{.model = model_of(step.model),
                            .ranks = step.ranks,
                            .batch = step.batch,
                            .context = step.context,
                            .type = step.type,
                            .engine_overhead = step.engine_overhead};
    const double ms = generate_workload(spec, example_device(step.device)).step.wall_ns / 1e6;
    EXPECT_NEAR(ms / step.ms, 1, 0.15) << step.source << " on " << step.ranks << " " << step.device
                                       << ": " << ms << " for " << step.ms << " ms";
  }
}

// --- windows -------------------------------------------------------------------------------------

// vLLM's custom allreduce of bfloat16 messages inside CUDA graphs, us: ai-dynamo/aiconfigurator
// @095f58a5. Other measurements than those that the device files were fitted to, but for l40s.
struct MeasuredWindow {
  const char* device;
  int64_t ranks, elements;
  double us;
};

TEST(MeasuredWindows, AreMetWithin20Percent) {
  const MeasuredWindow windows[] = {
      {"h100-sxm", 2, 8192, 4.5},   {"h100-sxm", 4, 8192, 4.8},    {"h100-sxm", 8, 8192, 5.3},
      {"h100-sxm", 2, 65536, 4.8},  {"h100-sxm", 4, 65536, 5.8},   {"h100-sxm", 8, 65536, 7.9},
      {"h100-sxm", 2, 262144, 6.3}, {"h100-sxm", 4, 262144, 11.4}, {"h100-sxm", 8, 262144, 12.0},
      {"h200", 8, 8192, 5.2},       {"h200", 8, 65536, 7.9},       {"b200", 8, 8192, 8.1},
      {"b200", 8, 65536, 9.4},      {"b200", 8, 131072, 25.8},     {"a100-80g", 2, 8192, 5.3},
      {"a100-80g", 4, 8192, 6.0},   {"a100-80g", 8, 8192, 6.5},    {"a100-80g", 2, 65536, 5.7},
      {"a100-80g", 4, 65536, 7.8},  {"a100-80g", 8, 65536, 11.4},  {"l40s", 4, 8192, 17.5},
      {"l40s", 8, 8192, 27.4},      {"l40s", 4, 65536, 59.6},      {"l40s", 8, 65536, 108}};
  for (const auto& [name, ranks, elements, us] : windows) {
    const double ns =
        collective_time(example_device(name), "allreduce", ranks, 2 * elements).dur_ns;
    EXPECT_NEAR(ns / 1e3 / us, 1, 0.2) << name << " " << ranks << " ranks, " << elements;
  }
}

TEST(Collectives, OfTheLibraryThatIsChosen) {
  const DeviceModel all = example_device("h100-sxm");
  const auto ns = [&](const std::string& library) {
    return collective_time(with_collectives(all, library), "allreduce", 8, 16384).dur_ns;
  };
  EXPECT_EQ(ns(""), ns("custom"));
  EXPECT_GT(ns("nccl"), 2 * ns("custom"));
  EXPECT_GT(ns("custom-eager"), ns("nccl"));
  EXPECT_THAT([&] { ns("hccl"); }, fails_with("it has custom, custom-eager, nccl"));
}

// --- what steps read -----------------------------------------------------------------------------

TEST(GeneratedSteps, ContextsOfEachSequence) {
  WorkloadSpec spec{.model = model_of(kLlama3Small), .batch = 2, .contexts = {1000, 3000}};
  const auto core = [&] { return test::op_named(on_h100(spec).step, "layers.0.attn.core"); };
  const StepOp uneven = core();
  EXPECT_EQ(uneven.accesses[0].bytes, 4000 * 8 * 128 * 2);
  spec.contexts = {2000, 2000};
  const StepOp even = core();
  EXPECT_EQ(even.accesses[0].bytes, uneven.accesses[0].bytes);
  EXPECT_GE(uneven.dur_ns, even.dur_ns);
  spec.contexts = {2000};
  EXPECT_THAT([&] { on_h100(spec); }, fails_with("names 1 sequences"));
}

TEST(GeneratedSteps, ExpertsAreReadButOfUnknownRole) {
  WorkloadSpec spec;
  spec.model = model_of(
      R"("model_type":"mixtral","hidden_size":1024,"intermediate_size":2048,"num_hidden_layers":1,)"
      R"("num_attention_heads":8,"vocab_size":1000,"num_local_experts":8,"num_experts_per_tok":2)");
  const auto experts_read = [&](int64_t batch) {
    spec.batch = batch;
    const FoldedStep step = on_h100(spec).step;
    for (const StepTensor& tensor : step.tensors) {
      if (tensor.name != "layers.0.mlp.experts.down.weight") continue;
      EXPECT_EQ(tensor.role, TensorRole::unknown) << "never prefetched";
      return tensor.bytes / (1024 * 2048 * 2);
    }
    return int64_t{0};
  };
  EXPECT_EQ(experts_read(1), 2);
  EXPECT_EQ(experts_read(4), 5) << "8 (1 - 0.75^4) = 5.5 distinct experts";
  EXPECT_EQ(experts_read(64), 8);
  EXPECT_EQ(on_h100(spec).bytes.weights, 2 * (4 * 1024 * 1024 + 8 * 1024 + 8 * 3 * 1024 * 2048));
}

TEST(GeneratedSteps, WindowsBoundTheCache) {
  const WorkloadSpec spec{.model = model_of(kLlama3Small + R"(,"sliding_window":1024)"),
                          .context = 8192};
  EXPECT_EQ(on_h100(spec).bytes.kv, int64_t{32} * 2 * 1024 * 8 * 128 * 2);
}

TEST(GeneratedSteps, EngineOverheadIsOperatorsOfItsOwn) {
  WorkloadSpec spec{.model = model_of(kLlama3Small)};
  const Workload plain = on_h100(spec);
  spec.engine_overhead = 1.4;
  const Workload slow = on_h100(spec);
  EXPECT_NEAR(slow.step.wall_ns / plain.step.wall_ns, 1.4, 1e-4);
  EXPECT_EQ(slow.step.ops.size(), plain.step.ops.size() + 32 + 2);
  spec.engine_overhead = 0.9;
  EXPECT_THAT([&] { on_h100(spec); }, fails_with("--engine-overhead"));
}

TEST(GeneratedSteps, FourBitsWhereTheDeviceHasThem) {
  WorkloadSpec spec{.model = model_of(kLlama3Small), .type = WeightType::fp4};
  EXPECT_THAT([&] { on_h100(spec); }, fails_with("no fp4 arithmetic rate"));
  const Workload fp4 = generate_workload(spec, example_device("b200"));
  spec.type = WeightType::fp8;
  const Workload fp8 = generate_workload(spec, example_device("b200"));
  EXPECT_EQ(fp4.bytes.weights * 16, fp8.bytes.weights * 9) << "a scale for 16 numbers";
  EXPECT_LT(fp4.step.wall_ns, fp8.step.wall_ns);
}

// --- options -------------------------------------------------------------------------------------

TEST(ContextOption, ListsAndSpreads) {
  using Contexts = std::vector<int64_t>;
  EXPECT_EQ(parse_contexts("4096", 8), Contexts{4096});
  EXPECT_EQ(parse_contexts("1000,3*8192", 1), (Contexts{1000, 8192, 8192, 8192}));
  EXPECT_EQ(parse_contexts("uniform:1000:2000", 4), (Contexts{1125, 1375, 1625, 1875}));
  for (const char* text :
       {"", "0", "1,", "-5", "a", "uniform:5", "uniform:9:5", "0*5", "9999999*5", "1e3", "5*"}) {
    EXPECT_THAT([&] { parse_contexts(text, 4); }, fails_with("--context")) << text;
  }
}

TEST(EngineOverheadOption, FactorsAndNames) {
  EXPECT_EQ(parse_engine_overhead("1.3"), 1.3);
  EXPECT_EQ(parse_engine_overhead("vllm-2024"), 1.4);
  for (const char* text : {"", "0.5", "fast", "nan", "1.2x"}) {
    EXPECT_THAT([&] { parse_engine_overhead(text); }, fails_with("--engine-overhead")) << text;
  }
}

// --- operators -----------------------------------------------------------------------------------

TEST(OperatorTime, InterpolatesInLogarithms) {
  OperatorTable table;
  table.latency_ns = 1000;
  table.bandwidth_bytes_per_s = 1e9;
  table.axes = {{"m", {1}}, {"n", {64, 1024}}, {"k", {64}}};
  table.factors = {1, 4};
  const auto ns = [&](double n) { return operator_time(table, {1, n, 64}, 1000).dur_ns; };
  EXPECT_DOUBLE_EQ(ns(64), 2000);
  EXPECT_DOUBLE_EQ(ns(256), 4000) << "half way, so the square root of 4";
  EXPECT_DOUBLE_EQ(ns(1024), 8000);
  EXPECT_DOUBLE_EQ(ns(9999), 8000) << "the factor of the edge";
  EXPECT_TRUE(operator_time(table, {1, 9999, 64}, 1000).extrapolated);
  EXPECT_FALSE(operator_time(table, {1, 1024, 64}, 1000).extrapolated);
  EXPECT_DOUBLE_EQ(operator_time(table, {1, 64, 64}, 9000).dur_ns, 10'000);
}

using Cells = std::map<std::string, std::string>;

struct HeldOut {
  std::string operation, dtype;
  std::array<double, 3> place;
  double size_bytes, dur_ns;
};

HeldOut held_out(const Cells& row) {
  const auto number = [&](const char* name) { return std::stod(row.at(name)); };
  const bool gemm = row.count("dtype") > 0;
  const std::string type = row.at(gemm ? "dtype" : "kv_dtype");
  HeldOut result{gemm ? "gemm" : "attention",
                 type == "bfloat16" ? "fp16" : type,
                 {},
                 0,
                 number("latency_us") * 1e3};
  const double element = result.dtype == "fp16" ? 2 : 1;
  if (gemm) {
    result.place = {number("m"), number("n"), number("k")};
    result.size_bytes = number("n") * number("k") * element;
  } else {
    const double streams = number("batch") * number("kv_heads");
    result.place = {streams, number("context"), number("heads") / number("kv_heads")};
    result.size_bytes = 2 * streams * number("context") * number("head_dim") * element;
  }
  return result;
}

TEST(DevicePresets, TakeTheTablesOfAnotherDeviceScaled) {
  if (test::run_program({"python3", "--version"}).exit_code != 0) GTEST_SKIP() << "no python3 here";
  const test::TemporaryDirectory directory;
  const std::string path = (directory / "device.json").string();
  fs::copy_file(device_file("ascend-910b"), path);
  const auto like = [&](const std::string& error) {
    return test::run_program({kMakePresets, "--like", device_file("h100-sxm"), "--operation",
                              "gemm", "--device", path, "--error", error});
  };
  EXPECT_EQ(like("gemm=much").exit_code, 1);
  ASSERT_EQ(like("gemm=0.25,0.5").exit_code, 0);
  const DeviceModel scaled = load_device(path), from = example_device("h100-sxm");
  const OperatorTable* table = find_operator_table(scaled, "gemm", "fp16");
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->median_relative_error, 0.25);
  EXPECT_TRUE(table->kernel.ends_with("scaled from h100-sxm"));
  EXPECT_NEAR(table->bandwidth_bytes_per_s / scaled.memory_bandwidth_bytes_per_s,
              find_operator_table(from, "gemm", "fp16")->bandwidth_bytes_per_s /
                  from.memory_bandwidth_bytes_per_s,
              1e-3);
  EXPECT_EQ(find_operator_table(scaled, "attention", "fp16"), nullptr);
  OperatorTimes times(scaled);
  EXPECT_STREQ(times.product(1, 1024, 1024, WeightType::fp16, 2 << 20).source,
               "table of another device, scaled");
  EXPECT_THAT(times.warnings(), testing::Contains(testing::HasSubstr("those of h100-sxm")));
}

class RealOperators : public testing::TestWithParam<const char*> {};

TEST_P(RealOperators, RowsOutOfTheFitAreMetWithin8Percent) {
  const char* folder = std::getenv("PRESERVE_REAL_OPERATORS");
  if (folder == nullptr) GTEST_SKIP() << "PRESERVE_REAL_OPERATORS does not name the tables' folder";
  std::ifstream file(fs::path(folder) / GetParam());
  ASSERT_TRUE(file.good()) << GetParam();
  const test::TemporaryDirectory directory;
  std::ofstream fitted(directory / "fitted.csv");
  std::vector<std::string> header;
  std::vector<HeldOut> rows;
  std::string line;
  for (int64_t number = 0; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    std::vector<std::string> cells;
    std::istringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
    if (number == 0) header = cells;
    if (number % 3 != 1) {
      fitted << line << '\n';
      continue;
    }
    Cells row;
    for (size_t i = 0; i < header.size(); ++i) row[header[i]] = cells.at(i);
    rows.push_back(held_out(row));
  }
  fitted.close();
  const std::string path = (directory / "device.json").string();
  fs::copy_file(device_file("ascend-910b"), path);
  succeeded(test::run_program(
      {kMakePresets, "--source", "a test", "--device", path, (directory / "fitted.csv").string()}));
  const DeviceModel fit = load_device(path);
  std::map<std::string, std::vector<double>> errors;  // by class and type
  for (const HeldOut& row : rows) {
    const OperatorTable* table = find_operator_table(fit, row.operation, row.dtype);
    ASSERT_NE(table, nullptr) << row.operation << " " << row.dtype;
    const double ns = operator_time(*table, row.place, row.size_bytes).dur_ns;
    errors[row.operation + " " + row.dtype].push_back(std::fabs(ns / row.dur_ns - 1));
  }
  for (const auto& [name, values] : errors) {
    ASSERT_GT(values.size(), 100u) << name;
    EXPECT_LE(median(values), 0.08) << name;
    RecordProperty(name, std::to_string(median(values)));
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, RealOperators,
                         testing::Values("a100_sxm_gemm.csv", "a100_sxm_decode_attention.csv",
                                         "b200_sxm_gemm.csv", "h100_sxm_gemm.csv",
                                         "h100_sxm_decode_attention.csv", "h200_sxm_gemm.csv",
                                         "h200_sxm_decode_attention.csv"),
                         [](const auto& instance) {
                           const std::string name = instance.param;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace preserve
