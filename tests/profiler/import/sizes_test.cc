// SPDX-License-Identifier: Apache-2.0
// Files with thousands of what others have a few of. Each is read in less than a second; anything
// that is gone through once per GPU, process or name would take minutes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

using ImportSizes = Importing;

const std::string kTables =
    "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
    "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, end, deviceId, contextId, streamId, "
    "correlationId, globalPid, demangledName);";

std::string kernel_on(int device, double start_us, int correlation, const char* name = "gemm") {
  return kineto_event("kernel", name, start_us, 0.5, 7,
                      fmt::format(R"("device": {}, "context": 1, "stream": {}, "correlation": {})",
                                  device, device, correlation));
}

TEST_F(ImportSizes, AThousandGpusOfOneProcess) {
  constexpr int kGpus = 1000, kSteps = 3 * kGpus;
  std::vector<std::string> events;
  for (int i = 0; i < kSteps; ++i) {
    events.push_back(kineto_event("user_annotation", "decode_step", 1000 + 10 * i, 9, 70));
    events.push_back(kineto_launch(1001 + 10 * i, i + 1));
    events.push_back(kernel_on(i % kGpus, 1004 + 10 * i, i + 1));
  }
  const auto imported = import_files({write_events("gpus.json", events)});
  EXPECT_EQ(imported.summary.processes, kGpus);
  EXPECT_THAT(imported.rows("SELECT COUNT(*), COUNT(range_id), COUNT(step_id) FROM op"),
              ElementsAre(fmt::format("{0} {0} {0}", kSteps)));
  // The first GPUs get what their process annotated, the others what was launched on them inside.
  EXPECT_THAT(imported.rows("SELECT DISTINCT n FROM (SELECT COUNT(*) AS n FROM range JOIN stream "
                            "ON stream.id = stream_id GROUP BY process_id) ORDER BY n"),
              ElementsAre("3", std::to_string(kSteps)));
  EXPECT_EQ(imported.count(
                "op JOIN stream a ON a.id = op.stream_id JOIN range ON range.id = range_id JOIN "
                "stream b ON b.id = range.stream_id WHERE a.process_id <> b.process_id"),
            0);
}

// Numbers that share one place of a hash table of the size that so many need.
TEST_F(ImportSizes, NumbersThatCollide) {
  // In a hash table with one chain for all of them this takes longer than a test may (54 s for
  // 160,000).
  constexpr int64_t kCount = 600'000, kPlaces = 712'697;
  const std::string sql =
      kTables +
      fmt::format(
          "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {0}) "
          "INSERT INTO StringIds SELECT i * {1}, 'kernel ' || i FROM c;"
          "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL SELECT id, id + 5, 0, 1, 7, 0, 16777216, id FROM "
          "StringIds;",
          kCount, kPlaces);
  const auto imported = import_files({write_sqlite("x.sqlite", sql)});
  EXPECT_EQ(imported.summary.kernels, kCount);
  EXPECT_THAT(imported.rows("SELECT COUNT(DISTINCT name_id) FROM op"),
              ElementsAre(std::to_string(kCount)));
}

TEST_F(ImportSizes, DevicesThatAreMappedForEveryProcess) {
  const std::string sql =
      kTables +
      "INSERT INTO StringIds VALUES (1, 'gemm');"
      "CREATE TABLE TARGET_INFO_GPU (id, name);"
      "CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId, cudaId, pid);"
      "WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 30000) "
      "INSERT INTO TARGET_INFO_GPU SELECT i, 'GPU ' || i FROM c;"
      "INSERT INTO TARGET_INFO_CUDA_DEVICE SELECT id, id, NULL FROM TARGET_INFO_GPU;"
      "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL SELECT id, id + 5, id % 4, 1, 7, 0, "
      "(id % 900) << 24, 1 FROM TARGET_INFO_GPU;";
  const auto imported = import_files({write_sqlite("x.sqlite", sql)}, true);
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM op"), ElementsAre("30001"));
  EXPECT_THAT(imported.rows("SELECT DISTINCT name FROM device ORDER BY name"),
              ElementsAre("GPU 0", "GPU 1", "GPU 2", "GPU 3"));
  EXPECT_THAT(imported.summary.warnings,
              Contains(HasSubstr("x.sqlite: describes too many GPUs: 29001 left out")));
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("more than 10000 visible devices")));
}

TEST_F(ImportSizes, MoreProcessesThanARunHasAreRefused) {
  for (const int processes : {1000, 1001}) {
    const auto path = write_sqlite(
        fmt::format("{}.sqlite", processes),
        kTables +
            fmt::format(
                "INSERT INTO StringIds VALUES (1, 'gemm');"
                "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {}) "
                "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL SELECT i, i + 5, 0, 1, 7, 0, i << 24, "
                "1 FROM c;",
                processes));
    if (processes == 1000) {
      EXPECT_EQ(import_files({path}, true).summary.processes, processes);
    } else {
      expect_refused({path}, "1001.sqlite: has more than 1000 processes", true);
    }
  }
}

TEST_F(ImportSizes, DescriptionsOfMoreGpusThanAFileHas) {
  std::string devices;
  for (int i = 0; i < 1003; ++i) {
    devices += fmt::format(R"({}{{"id": {}, "name": "GPU {}"}})", i == 0 ? "" : ", ", i, i);
  }
  const auto imported = import_files({write_events("rank0.json", {kernel_on(0, 1, 1)},
                                                   "\"deviceProperties\": [" + devices + "], ")});
  EXPECT_THAT(imported.rows("SELECT name FROM device"), ElementsAre("GPU 0"));
  EXPECT_THAT(imported.summary.warnings,
              Contains(HasSubstr("rank0.json: describes too many GPUs: 3 left out")));
}

TEST_F(ImportSizes, AsManyCommunicatorsAsLines) {
  std::string log;
  for (int i = 0; i < 20'000; ++i) {
    log += fmt::format(
        R"({{"header": {{"id": "0x{:x}", "rank": 0, "n_ranks": 1}}, "coll_perf": {{"coll": "AllReduce", "coll_sn": {}, "coll_msg_size_bytes": 64, "coll_exec_time_us": 1}}}})"
        "\n",
        i, i);
  }
  const auto imported =
      import_files({write_text("log.json", log),
                    write_events("rank0.json", {kernel_on(0, 1, 1, "ncclDevKernel_AllReduce")})});
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM op"), ElementsAre("1"));
}

}  // namespace
}  // namespace preserve::test
