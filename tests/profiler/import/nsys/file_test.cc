// SPDX-License-Identifier: Apache-2.0
// Nsight Systems exports: schemas that come and go, and what must never be copied from them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "common/error.h"
#include "common/output_file.h"
#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kPid = int64_t{0x0001000001} << 24;  // vm 1, pid 1
constexpr int64_t kTid = kPid + 5;
constexpr int64_t kOther = kPid + (int64_t{1} << 24);

const std::string kStrings =
    "CREATE TABLE StringIds (id INTEGER, value TEXT);"
    "INSERT INTO StringIds VALUES (1, 'nvjet_gemm'), (2, "
    "'ncclDevKernel_AllReduce_Sum_bf16_RING_LL'), "
    "(3, 'decode_step'), (4, 'layers.0.mlp');";

// `more` columns and values follow the ones every schema has.
std::string kernel_table(const std::string& more = "") {
  return "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, "
         "contextId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER, "
         "demangledName INTEGER" +
         more + ");";
}
std::string kernel(int64_t start, int64_t end, int name, int correlation, int64_t pid = kPid,
                   const std::string& more = "") {
  return fmt::format(
      "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({}, {}, 0, 1, 7, {}, {}, {}{});", start, end,
      correlation, pid, name, more);
}
std::string runtime(int64_t start, int correlation) {
  return fmt::format("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES ({}, {}, {}, {});", start,
                     start + 5, kTid, correlation);
}
const std::string kRuntimeTable =
    "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER, "
    "correlationId "
    "INTEGER);";

const std::string kTables = kStrings + kernel_table();
// A launch and its kernel inside `ranges`: values of each NVTX event's `columns`.
std::string one_launch(const std::string& columns, const std::string& ranges) {
  return kTables + kRuntimeTable + "CREATE TABLE NVTX_EVENTS (" + columns + ");" +
         "INSERT INTO NVTX_EVENTS VALUES " + ranges + ";" + runtime(100, 11) +
         kernel(150, 180, 1, 11);
}
constexpr const char* kEvent =
    "start INTEGER, end INTEGER, eventType INTEGER, globalTid INTEGER, text TEXT";

class ImportNsys : public Importing {
 protected:
  Imported import_sql(const std::string& sql, bool partial = false) {
    return import_files({database(sql)}, partial);
  }
  void expect_sql_refused(const std::string& sql, const std::string& part) {
    expect_refused({database(sql)}, part);
  }

 private:
  std::filesystem::path database(const std::string& sql) {
    std::filesystem::remove(directory_ / "t.sqlite");
    return write_sqlite("t.sqlite", sql);
  }
};

TEST_F(ImportNsys, KernelsLaunchesAndRangesAreJoined) {
  const auto imported = import_sql(
      one_launch(std::string(kEvent) + ", textId INTEGER, domainId INTEGER",
                 fmt::format("(90, 300, 59, {0}, NULL, 3, 0), (95, 200, 59, {0}, 'layers.0.mlp', "
                             "NULL, 0), (96, NULL, 34, {0}, 'mark', NULL, 0)",
                             kTid)));
  EXPECT_THAT(imported.rows("SELECT name, start_ns, end_ns FROM op_named"),
              ElementsAre("nvjet_gemm 150 180"));
  EXPECT_THAT(imported.rows("SELECT name FROM range_named ORDER BY depth"),
              ElementsAre("decode_step", "layers.0.mlp"));
  EXPECT_THAT(imported.rows("SELECT phase, start_ns, end_ns FROM step"),
              ElementsAre("decode 150 180"));
}

TEST_F(ImportNsys, TablesAndColumnsMayBeAbsent) {
  // The smallest schema that holds a kernel.
  const auto imported = import_sql(
      kStrings +
      "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (end INTEGER, start INTEGER, demangledName INTEGER);"
      "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (20, 10, 1);");
  EXPECT_EQ(imported.summary.kernels, 1);
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("does not say which GPU")));
  EXPECT_THAT(imported.rows("SELECT 1 FROM device WHERE cache_bytes IS NULL"), ElementsAre("1"));
}

TEST_F(ImportNsys, NamesOfKernelsMayBeInOtherColumns) {
  const auto table = [](const std::string& name_column) {
    return kStrings + "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER" +
           name_column + "); INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (10, 20" +
           (name_column.empty() ? "" : ", 2") + ");";
  };
  for (const char* column_name : {"shortName", "mangledName"}) {
    const auto imported = import_sql(table(fmt::format(", {} INTEGER", column_name)));
    EXPECT_THAT(imported.rows("SELECT kind, name FROM op_named"),
                ElementsAre("collective ncclDevKernel_AllReduce_Sum_bf16_RING_LL"));
  }
  expect_sql_refused(table(""), "has no column 'demangledName'");
  EXPECT_THAT(import_sql(table(""), true).summary.warnings,
              Contains(HasSubstr("does not say what its kernels are called")));
}

TEST_F(ImportNsys, GraphColumnsAreUsedWhereTheyExist) {
  const auto imported =
      import_sql(kStrings + kernel_table(", graphId INTEGER, graphNodeId INTEGER") +
                 kernel(10, 20, 1, 1, kPid, ", 44, 900") + kernel(20, 30, 1, 1, kPid, ", 44, 901"));
  EXPECT_THAT(imported.rows("SELECT graph_id || ':' || graph_node_id FROM op"),
              ElementsAre("44:900", "44:901"));
}

TEST_F(ImportNsys, VersionIsFoundUnderBothNames) {
  for (const char* table : {"META_DATA_EXPORT", "EXPORT_META_DATA"}) {
    const auto imported =
        import_sql(kTables + kernel(1, 2, 1, 1) +
                   fmt::format("CREATE TABLE {0} (name TEXT, value TEXT); INSERT INTO {0} VALUES "
                               "('EXPORT_SCHEMA_VERSION', '3.13.2');",
                               table));
    EXPECT_THAT(imported.summary.notes, Contains(HasSubstr("schema 3.13.2")));
  }
}

TEST_F(ImportNsys, ProcessesWithEqualDeviceNumbersStayApart) {
  const auto imported = import_sql(kTables + kernel(10, 20, 2, 1) + kernel(10, 25, 2, 1, kOther));
  EXPECT_THAT(imported.rows("SELECT pid FROM process ORDER BY id"), ElementsAre("1", "2"));
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM op GROUP BY stream_id"), ElementsAre("1", "1"));
  // Both say GPU 0: nothing orders them.
  EXPECT_THAT(imported.rows("SELECT 1 FROM process WHERE rank IS NOT NULL"), testing::IsEmpty());
}

TEST_F(ImportNsys, FactsOfTheGpuComeFromTheExport) {
  const auto imported = import_sql(kTables + kernel(1, 2, 1, 1) +
                                   "CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT, "
                                   "l2CacheSize INTEGER, totalMemory INTEGER, "
                                   "memoryBandwidth INTEGER, smCount INTEGER);"
                                   "INSERT INTO TARGET_INFO_GPU VALUES (0, 'NVIDIA "
                                   "A100-SXM4-40GB', 41943040, 42297524224, 1555200000000, 108);");
  EXPECT_THAT(
      imported.rows("SELECT name, cache_bytes, memory_bandwidth_bytes_per_s, units FROM device"),
      ElementsAre("NVIDIA A100-SXM4-40GB 41943040 1555200000000 108"));
}

TEST_F(ImportNsys, ShapesInNvtxNamesOfPyTorchAreRead) {
  const auto imported =
      import_sql(one_launch(kEvent, fmt::format("(90, 300, 59, {}, 'aten::linear, seq = 4, op_id = "
                                                "17, sizes = [[1, 8, 64], [32, 64], [32]]')",
                                                kTid)) +
                 "UPDATE StringIds SET value = 'cutlass_gemm_bf16' WHERE id = 1;");
  EXPECT_THAT(imported.rows("SELECT name FROM range_named"), ElementsAre("aten::linear"));
  EXPECT_THAT(imported.rows("SELECT bytes FROM access_named WHERE tensor LIKE '%.weight'"),
              ElementsAre("4096"));
}

TEST_F(ImportNsys, OpenRangesEndWithTheRecording) {
  const auto imported =
      import_sql(one_launch(kEvent, fmt::format("(90, NULL, 59, {}, 'cut off')", kTid)));
  EXPECT_THAT(imported.rows("SELECT name FROM range_named WHERE end_ns IS NULL"),
              ElementsAre("cut off"));
  EXPECT_THAT(imported.rows("SELECT 1 FROM op WHERE range_id IS NOT NULL"), ElementsAre("1"));
}

// Recorded by default: a graph is one row, beside the kernels outside of graphs.
TEST_F(ImportNsys, WholeGraphsAreOperatorsBesideKernels) {
  const std::string graphs =
      "CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE (start INTEGER, end INTEGER, deviceId INTEGER, "
      "contextId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER, graphId "
      "INTEGER);";
  const auto graph = [](int64_t start, int64_t end, int correlation) {
    return fmt::format(
        "INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES ({}, {}, 0, 1, 7, {}, {}, 5);", start,
        end, correlation, kPid);
  };
  const auto mixed = import_sql(kTables + kRuntimeTable + graphs + runtime(900, 3) +
                                kernel(100, 150, 1, 1) + graph(1000, 9000, 3) +
                                // Its kernels were recorded, too: no time counts twice.
                                kernel(9100, 9200, 1, 4) + graph(9100, 9300, 4));
  EXPECT_THAT(mixed.rows("SELECT name, end_ns - start_ns FROM op_named"),
              ElementsAre("nvjet_gemm 50", "CUDA graph 8000", "nvjet_gemm 100"));
  EXPECT_THAT(mixed.summary.warnings, Contains(HasSubstr("record with --cuda-graph-trace=node")));
  const auto alone = import_sql(kTables + graphs + graph(1000, 9000, 3));
  EXPECT_THAT(alone.rows("SELECT graph_id FROM op"), ElementsAre("5"));
  // Kernels of all graphs are there.
  const auto nodes = import_sql(kTables + graphs + kernel(9100, 9200, 1, 4) + graph(9100, 9300, 4));
  EXPECT_THAT(nodes.rows("SELECT name FROM op_named"), ElementsAre("nvjet_gemm"));
}

// Rather than the order of GPUs: the ranks of MPI, and the titles of processes.
TEST_F(ImportNsys, WhatSaysTheRanksOfProcesses) {
  for (const std::string& said :
       {fmt::format("CREATE TABLE MPI_RANKS (globalTid INTEGER, rank INTEGER);"
                    "INSERT INTO MPI_RANKS VALUES ({}, 1), ({}, 0), (99, 2), ({}, 'x');",
                    kTid, kOther + 9, kTid),
        fmt::format("CREATE TABLE PROCESSES (globalPid INTEGER, pid INTEGER, name TEXT);"
                    "INSERT INTO PROCESSES VALUES ({}, 1, 'VLLM::Worker_TP1'), ({}, 2, "
                    "'VLLM::Worker_TP0');",
                    kPid, kOther)}) {
    SCOPED_TRACE(said);
    const auto imported =
        import_sql(kTables + kernel(10, 20, 2, 1) + kernel(10, 40, 2, 1, kOther) + said);
    EXPECT_THAT(imported.rows(
                    "SELECT process.rank, op.end_ns - op.start_ns FROM op JOIN stream ON stream.id "
                    "= stream_id JOIN process ON process.id = process_id ORDER BY rank"),
                ElementsAre("0 30", "1 10"));
    EXPECT_EQ(said.find("PROCESSES") != std::string::npos,
              testing::Value(imported.summary.warnings, Contains(HasSubstr("0 are guessed"))));
  }
}

// NCCL's payloads, exported with --include-blobs=true: as bytes or in hexadecimal.
TEST_F(ImportNsys, PayloadsOfNcclSayWhatItsKernelsDo) {
  const auto call = [](int64_t start, int text, int64_t bytes, bool as_text,
                       int schema = 16777221) {
    std::string data;
    const auto append = [&](uint64_t value, int count) {
      for (int i = 0; i < count; ++i) data += fmt::format("{:02x}", (value >> (8 * i)) & 255);
    };
    for (const int word : {1, 0, schema, 0}) append(static_cast<uint64_t>(word), 4);
    append(24, 8);
    append(56, 8);
    append(77, 8);  // communicator
    append(static_cast<uint64_t>(bytes), 8);
    append(3, 8);  // operation, and padding that says nothing
    return fmt::format("INSERT INTO NVTX_EVENTS VALUES ({}, {}, 59, NULL, {}, {}, 1, {}'{}');",
                       start, start + 8, text, kTid, as_text ? "" : "x", data);
  };
  const auto imported = import_sql(
      kTables + kRuntimeTable +
      "INSERT INTO StringIds VALUES (10, 'ncclAllReduce'), (11, 'ncclSend'), (12, 'ncclRecv'), "
      "(13, 'ncclDevKernel_SendRecv');"
      "CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId "
      "INTEGER, globalTid INTEGER, domainId INTEGER, binaryData TEXT);"
      "CREATE TABLE NVTX_PAYLOAD_SCHEMA_ENTRIES (domainId INTEGER, schemaId INTEGER, idx INTEGER, "
      "type INTEGER, name TEXT, offset INTEGER);"
      "INSERT INTO NVTX_PAYLOAD_SCHEMA_ENTRIES VALUES "
      "(1, 16777221, 0, 18, 'NCCL communicator ID', NULL), "
      "(1, 16777221, 1, 22, 'Message size [bytes]', 8), "
      "(1, 16777221, 2, 16777232, 'Reduction operation', 16);" +
      call(100, 10, 4096, false) + runtime(103, 1) + kernel(200, 230, 2, 1) +
      // Two calls of a group, one kernel.
      call(300, 11, 512, true) + call(310, 12, 1024, true) + runtime(320, 2) +
      kernel(400, 430, 13, 2) +
      // Of a schema that nobody registered: its kernel is none of the group's.
      call(500, 10, 4096, false, 99) + runtime(503, 3) + kernel(600, 630, 2, 3));
  EXPECT_THAT(imported.rows("SELECT function, bytes, communicator, source, confidence FROM "
                            "collective ORDER BY op_id"),
              ElementsAre("allreduce 4096 77 nccl_nvtx 0.9", "sendrecv 1536 77 nccl_nvtx 0.72",
                          "allreduce - - kernel_name 0.5"));
}

TEST_F(ImportNsys, OtherGpuWorkIsNamed) {
  expect_sql_refused(kStrings +
                         "CREATE TABLE CUPTI_ACTIVITY_KIND_CDP_KERNEL (start INTEGER);"
                         "INSERT INTO CUPTI_ACTIVITY_KIND_CDP_KERNEL VALUES (1);",
                     "no GPU activity is recognised, but there are rows in "
                     "CUPTI_ACTIVITY_KIND_CDP_KERNEL");
  // Of a schema that is not known: what lasts and has a place on a GPU.
  expect_sql_refused(kStrings +
                         "CREATE TABLE CUDA_KERNELS (start INTEGER, end INTEGER, streamId INTEGER);"
                         "INSERT INTO CUDA_KERNELS VALUES (1, 2, 7);"
                         "CREATE TABLE OSRT_API (start INTEGER, end INTEGER, globalTid INTEGER);"
                         "INSERT INTO OSRT_API VALUES (1, 2, 7);",
                     "no GPU activity is recognised, but there are rows in CUDA_KERNELS;");
}

TEST_F(ImportNsys, BadRowsAreRefusedOrCounted) {
  const struct {
    std::string row, message, kind;
  } cases[] = {
      {kernel(20, 10, 1, 2), "ends before it starts", "negative_duration"},
      {kernel(INT64_MAX, INT64_MAX, 1, 2), "time out of range", "bad_time"},
      {"INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL (start, end, globalPid) VALUES ('soon', 3, " +
           std::to_string(kPid) + ");",
       "no usable start or end", "bad_time"}};
  for (const auto& bad : cases) {
    const std::string sql = kTables + kernel(1, 2, 1, 1) + bad.row;
    expect_sql_refused(sql, bad.message);
    const auto imported = import_sql(sql, true);
    EXPECT_EQ(imported.summary.kernels, 1);
    EXPECT_THAT(imported.losses(), ElementsAre(bad.kind + "1"));
  }
}

TEST_F(ImportNsys, ForeignDatabasesAreRefused) {
  expect_sql_refused("CREATE TABLE t (a);", "not an Nsight Systems export");
  expect_sql_refused(kStrings, "holds no GPU activity");
  expect_sql_refused(kStrings + "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (a INTEGER);",
                     "has no column 'start'");
  // A view may run for ever.
  expect_sql_refused(
      "CREATE TABLE other (id, value); CREATE VIEW StringIds AS SELECT * FROM other;",
      "StringIds is not a table");
  expect_sql_refused(kStrings +
                         "CREATE VIEW cupti_activity_kind_kernel AS WITH RECURSIVE n(start) AS "
                         "(SELECT 1 UNION ALL SELECT start + 1 FROM n) SELECT start FROM n;",
                     "CUPTI_ACTIVITY_KIND_KERNEL is not a table");
}

TEST_F(ImportNsys, OwnTracesAreRecognised) {
  write_synthetic_trace(directory_ / "own.db");
  expect_refused({directory_ / "own.db"}, "is a preserve trace already");
}

TEST_F(ImportNsys, TruncatedDatabasesAreRefused) {
  std::string sql = kTables;
  for (int i = 0; i < 2000; ++i) sql += kernel(10 * i, 10 * i + 5, 1, i + 1);
  const auto path = write_sqlite("cut.sqlite", sql);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_THROW(import_files({path}), Error);
}

TEST_F(ImportNsys, NoEnvironmentIsCopied) {
  const std::string secret = "ghp_PlantedTokenPlantedTokenPlantedToken";
  const auto imported = import_sql(
      kTables + kernel(1, 2, 1, 1) +
      fmt::format(
          "CREATE TABLE META_DATA_CAPTURE (name TEXT, value TEXT);"
          "INSERT INTO META_DATA_CAPTURE VALUES ('ENV', 'HF_TOKEN={0}');"
          "CREATE TABLE TARGET_INFO_SYSTEM_ENV (name TEXT, nameEnum TEXT, value TEXT);"
          "INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES ('DeviceEnvironment', 'x', 'TOKEN={0}');"
          "INSERT INTO StringIds VALUES (99, 'PATH=/bin HF_TOKEN={0}');"
          "CREATE TABLE PROCESSES (globalPid INTEGER, pid INTEGER, name TEXT);"
          "INSERT INTO PROCESSES VALUES ({1}, 1, '/home/{0}/python3 --token {0}');",
          secret, kPid));
  EXPECT_THAT(imported.rows("SELECT command FROM process"), ElementsAre("python3"));
  EXPECT_THAT(read_text_file(directory_ / "imported.db"), testing::Not(HasSubstr(secret)));
}

}  // namespace
}  // namespace preserve::test
