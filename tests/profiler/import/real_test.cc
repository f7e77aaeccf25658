// SPDX-License-Identifier: Apache-2.0
// Real traces against golden.py, a second implementation. The folder of traces is named by
// PRESERVE_REAL_TRACES (see docs/importing.md); without it these tests are skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "db/step/folded_step.h"
#include "profiler/export/chrome.h"
#include "tests/profiler/import/support.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

using testing::ElementsAre;

std::vector<std::filesystem::path> real_traces() {
  std::vector<std::filesystem::path> files;
  const char* folder = std::getenv("PRESERVE_REAL_TRACES");
  if (folder == nullptr) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (extension == ".gz" || extension == ".sqlite") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::filesystem::path real_trace(const std::string& part) {
  for (const auto& path : real_traces()) {
    if (path.filename().string().find(part) != std::string::npos) return path;
  }
  return {};
}

class RealTraces : public Importing {
 protected:
  void SetUp() override {
    if (real_traces().empty()) {
      GTEST_SKIP() << "PRESERVE_REAL_TRACES names no folder with traces";
    }
  }
};

nlohmann::json golden(const std::filesystem::path& path) {
  const Run run = succeeded(run_program(
      {"python3", PRESERVE_SOURCE_DIR "/tests/profiler/import/golden.py", path.string()}));
  return nlohmann::json::parse(run.out);
}

void compare(const Imported& imported, const nlohmann::json& expected) {
  const auto expect = [&](const char* key, const std::string& sql) {
    EXPECT_EQ(imported.number(sql), expected.at(key).get<int64_t>()) << key;
  };
  // Kernels that only copy are operators of kind copy, too; copies of the driver have its names.
  expect("kernels", "SELECT COUNT(*) FROM op_named WHERE name NOT LIKE 'Mem%'");
  expect("copies", "SELECT COUNT(*) FROM op_named WHERE name LIKE 'Mem%'");
  expect("streams", "SELECT COUNT(DISTINCT stream_id) FROM op");
  expect("summed_ns", "SELECT SUM(end_ns - start_ns) FROM op");
  expect("busy_ns", "SELECT SUM(attributed_ns) FROM stream_coverage");
  expect("first_ns", "SELECT MIN(start_ns) FROM op");
  expect("last_ns", "SELECT MAX(end_ns) FROM op");
  expect("unmatched", "SELECT SUM(count) FROM loss WHERE source = 'launch' AND kind = 'unmatched'");
  expect("replayed", "SELECT COUNT(*) FROM op WHERE graph_id IS NOT NULL");
  expect("nccl", "SELECT COUNT(*) FROM collective_named WHERE lower(name) LIKE '%nccl%'");
  if (expected.contains("metadata")) {
    expect("metadata", "SELECT COUNT(*) FROM collective WHERE source = 'kineto'");
  }
}

TEST_F(RealTraces, CountsAndTimesAgreeWithASecondImplementation) {
  for (const auto& path : real_traces()) {
    SCOPED_TRACE(path.filename());
    const nlohmann::json expected = golden(path);
    if (expected.at("kernels") == 0) {
      EXPECT_THROW(import_files({path}), Error);
      continue;
    }
    const auto imported = import_files({path});
    compare(imported, expected);
    // Every operator is in one bucket, and idle and busy time make up the wall time.
    EXPECT_EQ(
        imported.count("stream_coverage WHERE attributed_ns + idle_ns <> wall_ns OR idle_ns < 0"),
        0);
    EXPECT_EQ(
        imported.number(
            "SELECT (SELECT SUM(count) FROM loss WHERE source = 'launch' AND kind = 'received') "
            "- (SELECT SUM(count) FROM loss WHERE source = 'launch' AND kind <> 'received')"),
        0);
  }
}

TEST_F(RealTraces, EightRanksBecomeOneTrace) {
  std::vector<std::filesystem::path> ranks;
  for (const auto& path : real_traces()) {
    if (path.filename().string().find("dlrm8_worker") != std::string::npos) ranks.push_back(path);
  }
  if (ranks.size() != 8) GTEST_SKIP() << "no set of eight ranks among the traces";
  const auto imported = import_files(ranks);
  EXPECT_EQ(imported.number("SELECT COUNT(DISTINCT rank) FROM process WHERE world_size = 8"), 8);
  EXPECT_EQ(imported.number("SELECT COUNT(*) FROM collective WHERE bytes IS NULL"), 0);
  // One host, one clock: whatever is left after alignment is the µs of the time stamps.
  for (const std::string& residual :
       imported.rows("SELECT value FROM meta WHERE key LIKE 'clock_residual%'")) {
    EXPECT_LE(std::stoll(residual), 20'000);
  }
  const auto seven = std::vector<std::filesystem::path>(ranks.begin(), ranks.end() - 1);
  EXPECT_THROW(import_files(seven), Error);
}

TEST_F(RealTraces, ADecodeStepFoldsIntoWeightsToPrefetch) {
  for (const char* part : {"b300_sglang", "mi300_sglang"}) {
    const auto path = real_trace(part);
    if (path.empty()) continue;
    const auto imported = import_files({path});
    const FoldedStep step = fold_step(imported.db);
    EXPECT_EQ(step.source, "nvtx");
    int64_t weights = 0;
    for (const StepTensor& tensor : step.tensors) {
      if (tensor.role == TensorRole::weight && tensor.bytes > 0) ++weights;
    }
    EXPECT_GT(weights, 32) << part;  // several per layer
  }
}

TEST_F(RealTraces, PrefillIsToldFromDecode) {
  if (const auto path = real_trace("h100_qwen"); !path.empty()) {
    const auto imported = import_files({path});
    EXPECT_THAT(imported.rows("SELECT phase FROM step"), ElementsAre("prefill"));
    EXPECT_EQ(fold_step(imported.db).phase, StepPhase::prefill);  // all there is to plan for
    EXPECT_GT(imported.count("access_named WHERE source = 'shapes' AND role = 'weight'"), 24 * 7);
  }
}

TEST_F(RealTraces, ProductsHaveTheShapesOfTheModel) {
  const auto path = real_trace("h100_qwen");
  if (path.empty()) GTEST_SKIP() << "no such trace";
  const auto imported = import_files({path});
  // Qwen1.5-0.5B: hidden 1024, intermediate 2816, 24 layers; the logits are not among them.
  EXPECT_THAT(
      imported.rows("SELECT COUNT(*) || ' of ' || n || ' x ' || k, dtype FROM gemm GROUP BY n, k, "
                    "dtype ORDER BY n, k"),
      ElementsAre("96 of 1024 x 1024 bf16", "24 of 1024 x 2816 bf16", "48 of 2816 x 1024 bf16"));
  EXPECT_EQ(imported.count(
                "gemm JOIN access_named USING (op_id) WHERE role = 'weight' AND bytes = n * k * 2"),
            168);
}

TEST_F(RealTraces, ExportsReadBackAsTheSameOperators) {
  const auto path = real_trace("b300_sglang");
  if (path.empty()) GTEST_SKIP() << "no such trace";
  const std::string times =
      "SELECT name || start_ns, end_ns FROM op_named ORDER BY start_ns, end_ns, name";
  const auto first = import_files({path}).rows(times);
  Console console;
  exporter::run_export(directory_ / "imported.db", "chrome", std::nullopt,
                       directory_ / "out.json.gz", false, console);
  EXPECT_EQ(first, import_files({directory_ / "out.json.gz"}).rows(times));
}

}  // namespace
}  // namespace preserve::test
