// SPDX-License-Identifier: Apache-2.0
// Which rank a file or a process of it is, and which GPUs are whose.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "profiler/import/known_devices.h"
#include "profiler/import/rank_names.h"
#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using import::rank_in_file_name;
using import::rank_in_label;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kAllReduce = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL";

TEST(RankNames, OfFilesAreWholeWords) {
  const struct {
    const char* name;
    std::optional<int64_t> rank;
  } cases[] = {{"trace_rank3.json", 3},
               {"rank-12.pt.trace.json", 12},
               {"multirank-decode-rank1.json", 1},
               {"rank_trace_rank0.json", 0},
               {"worker3.json", 3},
               {"rank_3_local_rank_1.json", 3},
               {"node1-local-rank0.json", {}},
               {"decode [Rank 2].json", 2},
               {"decode_rank(2).json", 2},
               {"worker(1).json", {}},
               {"worker[1].json", {}},
               {"frank7.json", {}},
               {"rank3b.json", {}},
               {"llama_tp4_0.json", {}},
               {"dsr1_1k1k_fp4_tp4_ep4_conc64.json", {}},
               {"rank.json", {}},
               {"rank12345678.json", {}}};
  for (const auto& each : cases) {
    EXPECT_EQ(rank_in_file_name(each.name).rank, each.rank) << each.name;
    EXPECT_THAT(rank_in_file_name(each.name).place, IsEmpty()) << each.name;
  }
  EXPECT_THAT(rank_in_file_name("17.1-TP-0-PP-1.trace.json").place,
              ElementsAre(std::pair("pp", 1), std::pair("tp", 0)));
}

TEST(RankNames, OfProcesses) {
  EXPECT_THAT(rank_in_label("[TP00-PP01] 5000").place,
              ElementsAre(std::pair("pp", 1), std::pair("tp", 0)));
  EXPECT_EQ(rank_in_label("rank 3: python").rank, 3);
  EXPECT_EQ(rank_in_label("[Rank1] 0").rank, 1);
  EXPECT_EQ(rank_in_label("python rank[2]").rank, 2);
  EXPECT_EQ(rank_in_label("worker_1 (python)").rank, 1);
  EXPECT_THAT(rank_in_label("TP-1 50").place, ElementsAre(std::pair("tp", 1)));
  EXPECT_THAT(rank_in_label("VLLM::Worker_DP1_TP0").place,
              ElementsAre(std::pair("dp", 1), std::pair("tp", 0)));
  EXPECT_FALSE(rank_in_label("VLLM::EngineCore").says_anything());
  EXPECT_THAT(rank_in_label("tp_rank=1, pp_rank=0").place,
              ElementsAre(std::pair("pp", 0), std::pair("tp", 1)));
  for (const char* none : {"python3", "GPU 0", "frank 3", "[12] 5", "TPU", "", "[", "tp", "dpkg 3",
                           "cp1252x", "epoch 3", "tp_size", "Worker(12345)", "worker[4821]"}) {
    EXPECT_FALSE(rank_in_label(none).says_anything()) << none;
  }
}

TEST(RankNames, PlacesAreCountedInTheOrderOfLaunchers) {
  const auto ranks = [](const std::vector<const char*>& labels) {
    std::vector<import::RankName> names;
    names.reserve(labels.size());
    for (const char* label : labels) names.push_back(rank_in_label(label));
    return import::ranks_of(names);
  };
  EXPECT_THAT(ranks({"[TP01]", "[TP00]"}), ElementsAre(1, 0));
  EXPECT_THAT(ranks({"[TP03]"}), ElementsAre(3));
  EXPECT_THAT(ranks({"[TP00-PP01]", "[TP01-PP00]", "[TP00-PP00]", "[TP01-PP01]"}),
              ElementsAre(2, 1, 0, 3));
  EXPECT_THAT(ranks({"[TP00-DP00]", "[TP01-DP00]", "[TP02-DP01]", "[TP03-DP01]"}),
              ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(ranks({"[TP00]", "[TP00]"}), IsEmpty());  // the same place twice
  EXPECT_THAT(ranks({"[TP00]", "python"}), IsEmpty());  // one says nothing
  EXPECT_THAT(ranks({"[TP00-PP01]"}), IsEmpty());       // how many are before it?
}

class ImportRanks : public Importing {
 protected:
  // A collective on each of two GPUs.
  static std::vector<std::string> two_gpus() {
    std::vector<std::string> events;
    for (const int device : {0, 1}) {
      events.push_back(kineto_event("kernel", kAllReduce, 100, 5, 7,
                                    fmt::format(R"("device": {}, "stream": 7)", device)));
    }
    return events;
  }
};

// Two ranks with the same thread, device and correlation numbers: they differ in the label only.
TEST_F(ImportRanks, SeveralRanksInOneFile) {
  std::vector<std::string> events;
  for (int rank = 0; rank < 2; ++rank) {
    for (int i = 0; i < 3; ++i) {
      const int start = 1000 + 100 * i;
      events.push_back(fmt::format(
          R"({{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": "[TP0{}] 50", "tid": 5, "ts": {}, "dur": 3, "args": {{"correlation": {}}}}})",
          rank, start - 5, i + 1));
      events.push_back(fmt::format(
          R"({{"ph": "X", "cat": "kernel", "name": "{}", "pid": "[TP0{}] 0", "tid": 7, "ts": {}, "dur": {}, "args": {{"device": 0, "stream": 7, "correlation": {}}}}})",
          kAllReduce, rank, start, 20 + 10 * rank, i + 1));
    }
  }
  const auto imported = import_events(events);
  EXPECT_THAT(
      imported.rows(
          "SELECT rank, COUNT(*), SUM(op.end_ns - op.start_ns) FROM op JOIN stream ON stream.id = "
          "stream_id JOIN process ON process.id = process_id GROUP BY rank ORDER BY rank"),
      ElementsAre("0 3 60000", "1 3 90000"));
  EXPECT_THAT(imported.rows("SELECT 1 FROM op WHERE graph_id IS NOT NULL"), IsEmpty());
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("ranks 0, 1 are guessed")));
}

TEST_F(ImportRanks, LabelsOfProcessesNameRanksToo) {
  std::vector<std::string> events;
  for (const int rank : {3, 5}) {
    for (const char* kind : {"process_name", "process_labels"}) {
      events.push_back(fmt::format(
          R"({{"ph": "M", "pid": {0}, "name": "{1}", "args": {{"{2}": "rank {0} GPU"}}}})", rank,
          kind, kind == std::string("process_name") ? "name" : "labels"));
    }
    events.push_back(fmt::format(
        R"({{"ph": "X", "cat": "kernel", "name": "gemm", "pid": {}, "tid": 7, "ts": 10, "dur": 5, "args": {{"device": 0, "stream": 7}}}})",
        rank));
  }
  const auto imported = import_events(events);
  EXPECT_THAT(imported.rows("SELECT rank FROM process ORDER BY rank"), ElementsAre("3", "5"));
}

// Kineto names its processes after their events.
TEST_F(ImportRanks, NamesThatComeAfterTheEventsCount) {
  const auto trace = [](bool gpus_are_named) {
    std::vector<std::string> events;
    for (const int rank : {0, 1}) {
      events.push_back(fmt::format(
          R"({{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": {}, "tid": 1, "ts": 95, "dur": 2, "args": {{"correlation": 3}}}})",
          50 + rank));
      events.push_back(fmt::format(
          R"({{"ph": "X", "cat": "kernel", "name": "{}", "pid": {}, "tid": 7, "ts": 100, "dur": {}, "args": {{"device": 0, "stream": 7, "correlation": 3}}}})",
          kAllReduce, rank, 5 + rank));
    }
    for (const int rank : {0, 1}) {
      for (const int process : {50 + rank, rank}) {
        events.push_back(process_name(std::to_string(process), process < 50 && !gpus_are_named
                                                                   ? "python"
                                                                   : fmt::format("rank {}", rank)));
      }
    }
    return events;
  };
  const auto named = import_events(trace(true));
  EXPECT_THAT(named.rows("SELECT rank, op.end_ns - op.start_ns FROM op JOIN stream ON stream.id = "
                         "stream_id JOIN process ON process.id = process_id ORDER BY rank"),
              ElementsAre("0 5000", "1 6000"));
  EXPECT_THAT(named.rows("SELECT 1 FROM loss_nonzero"), IsEmpty());
  // Where only the host's processes have a name, nothing says whose a kernel is.
  const auto half = import_events(trace(false));
  EXPECT_THAT(half.rows("SELECT COUNT(*) FROM process"), ElementsAre("1"));
  EXPECT_THAT(half.summary.warnings, Contains(HasSubstr("2 processes launched what runs in it")));
}

TEST_F(ImportRanks, EachGpuOfAProcessIsAProcess) {
  std::vector<std::string> events{kineto_event("user_annotation", "decode_step", 900, 300, 70)};
  for (int device = 0; device < 2; ++device) {
    for (int i = 0; i < 4; ++i) {
      const int correlation = 10 * device + i + 1;
      events.push_back(kineto_launch(950 + correlation, correlation));
      // One GPU communicates while the other computes.
      events.push_back(fmt::format(
          R"({{"ph": "X", "cat": "kernel", "name": "{}", "pid": {}, "tid": 7, "ts": {}, "dur": 50, "args": {{"device": {}, "stream": 7, "correlation": {}}}}})",
          i % 2 == device ? "gemm" : kAllReduce, device, 1000 + 51 * i, device, correlation));
    }
  }
  const auto imported = import_events(events);
  EXPECT_THAT(imported.rows(
                  "SELECT process.rank, COUNT(*), SUM(op.kind = 'collective'), COUNT(op.step_id), "
                  "COUNT(op.range_id) FROM op JOIN stream ON stream.id = stream_id JOIN process ON "
                  "process.id = process_id GROUP BY process.id ORDER BY rank"),
              ElementsAre("0 4 2 4 4", "1 4 2 4 4"));
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("ran kernels on 2 GPUs")));
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("which is a guess")));
}

// A peer's memory is copied to, nothing is computed there.
TEST_F(ImportRanks, ProcessesThatCannotBeToldApartAreSaid) {
  for (const auto& [first, second] :
       {std::pair("5000", "5001"), std::pair(R"("0_5000")", R"("1_5000")")}) {
    std::vector<std::string> events;
    for (const char* pid : {first, second}) {
      const int start = pid == first ? 5000 : 6000;
      events.push_back(
          fmt::format(R"({{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel",
          "pid": {}, "tid": 1, "ts": {}, "dur": 2, "args": {{"correlation": 3}}}})",
                      pid, start));
      events.push_back(kineto_kernel(kAllReduce, start + 5, 5, 7, 3));
    }
    EXPECT_THAT(import_events(events).summary.warnings,
                Contains(HasSubstr("2 processes launched what runs in it")))
        << first;
  }
}

TEST_F(ImportRanks, OneRankOfSeveralGpusMayComeAlone) {
  const Imported imported = import_events(two_gpus(), kineto_rank(1, 2));
  EXPECT_THAT(imported.rows("SELECT rank || ' of ' || world_size FROM process"),
              ElementsAre("2 of 4", "3 of 4"));
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("rank 0, 1 of 4 is missing")));
}

TEST_F(ImportRanks, ACopyOnAnotherGpuMakesNoProcess) {
  const auto imported = import_files({write_events(
      "rank0.json",
      {kineto_kernel("gemm", 10, 5, 7, 1),
       R"({"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy PtoP", "pid": 1, "tid": 9, "ts": 20, "dur": 5, "args": {"device": 1, "stream": 9, "bytes": 8}})"})});
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM process"), ElementsAre("1"));
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM op"), ElementsAre("2"));
}

TEST_F(ImportRanks, WhatTheNameOfAFileSaysIsAGuess) {
  const auto kernel = kineto_kernel(kAllReduce, 10, 5, 7, 1);
  const auto stages = import_files({write_events("1-TP-0-PP-0.trace.json", {kernel}),
                                    write_events("1-TP-0-PP-1.trace.json", {kernel})});
  EXPECT_THAT(stages.rows("SELECT rank FROM process ORDER BY id"), ElementsAre("0", "1"));
  EXPECT_THAT(stages.summary.warnings,
              Contains(HasSubstr("guessed from the file's name, which gives its place")));
  expect_refused(
      {write_events("llama_tp2_0.json", {kernel}), write_events("llama_tp2_1.json", {kernel})},
      "has no rank, neither inside nor in its name");
}

TEST_F(ImportRanks, WritersPutTheirRankWhereTheFormatHasRoom) {
  for (const char* head : {R"("rank": 3, "world_size": 4, )", R"("otherData": {"rank": "3"}, )",
                           R"("metadata": {"host": "x", "rank": 3}, )"}) {
    const auto path = write_events("worker9.json", {kineto_kernel(kAllReduce, 10, 5, 7, 1)}, head);
    EXPECT_THAT(import_files({path}).rows("SELECT rank FROM process"), ElementsAre("3")) << head;
  }
}

TEST_F(ImportRanks, GpusOfSeveralFilesAreCountedFileByFile) {
  const auto imported = import_files(
      {write_events("t_rank1.json", two_gpus()), write_events("t_rank0.json", two_gpus())});
  EXPECT_THAT(imported.rows("SELECT rank FROM process ORDER BY id"),
              ElementsAre("2", "3", "0", "1"));
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("its GPUs are counted one by one")));
}

TEST(KnownDevices, WholeWordsOfTheName) {
  const auto bandwidth = [](const char* name) -> int64_t {
    const auto known = import::known_device(name, {});
    return known ? known->memory_bandwidth_bytes_per_s / 1'000'000'000 : 0;
  };
  EXPECT_EQ(bandwidth("NVIDIA GH200 480GB"), 4000);
  EXPECT_EQ(bandwidth("NVIDIA GH200 144G HBM3e"), 4900);
  EXPECT_EQ(bandwidth("NVIDIA H200"), 4800);
  EXPECT_EQ(bandwidth("NVIDIA H20-3e"), 4800);
  EXPECT_EQ(bandwidth("NVIDIA H20"), 4000);
  EXPECT_EQ(bandwidth("NVIDIA A100-SXM4-80GB"), 2039);
  EXPECT_EQ(bandwidth("NVIDIA A100-SXM4-40GB"), 1555);
  EXPECT_EQ(bandwidth("NVIDIA A100 80GB PCIe"), 1935);
  EXPECT_EQ(bandwidth("NVIDIA H100 80GB HBM2e"), 2000);
  EXPECT_EQ(bandwidth("Tesla P100-PCIE-12GB"), 549);
  EXPECT_EQ(bandwidth("Tesla P100-PCIE-16GB"), 732);
  EXPECT_EQ(bandwidth("NVIDIA RTX PRO 6000 Blackwell Server Edition"), 1597);
  EXPECT_EQ(bandwidth("A100"), 1555);
  EXPECT_EQ(bandwidth("NVIDIA A800 40GB Active"), 1555);
  EXPECT_EQ(bandwidth("NVIDIA L4"), 300);
  EXPECT_EQ(bandwidth("NVIDIA L40S"), 864);
  EXPECT_EQ(bandwidth("NVIDIA H100 NVL"), 3900);
  EXPECT_EQ(bandwidth("NVIDIA A100-PG509-200"), 1555);
  EXPECT_EQ(bandwidth("NVIDIA RTX A1000 Laptop GPU"), 0);
  EXPECT_EQ(bandwidth("NVIDIA RTX A4000"), 448);
  EXPECT_EQ(bandwidth("NVIDIA RTX A400"), 0);
  EXPECT_EQ(bandwidth("NVIDIA GeForce RTX 5090"), 1792);
  EXPECT_EQ(bandwidth("NVIDIA GeForce RTX 5090 Laptop GPU"), 896);
  EXPECT_EQ(bandwidth("NVIDIA GeForce RTX 4090 Laptop GPU"), 0);
  EXPECT_EQ(bandwidth("NVIDIA A100-SXM4-40GB MIG 1g.5gb"), 0);
  EXPECT_EQ(bandwidth("NVIDIA A40-8Q"), 0);
  EXPECT_EQ(bandwidth("NVIDIA GeForce RTX 4090 D"), 1008);
  EXPECT_EQ(bandwidth("AMD Instinct MI300X"), 5300);
  EXPECT_EQ(bandwidth(""), 0);
}

}  // namespace
}  // namespace preserve::test
