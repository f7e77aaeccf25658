// SPDX-License-Identifier: Apache-2.0
// NCCL's own words: what the real libnccl announces through NVTX, and payloads of other releases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "db/trace_db.h"
#include "profiler/convert/cuda/nccl_payload.h"
#include "profiler/convert/spool_reader.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

TEST(NcclPayload, CollectiveIsReadByEntryNames) {
  const cuda::NcclPayload payload = cuda::read_nccl_payload(
      "ncclAllReduce",
      R"({"Message size [bytes]":2048,"NCCL communicator ID":18446744073709551615,"Reduction operation":"Sum"})");
  ASSERT_TRUE(payload.call);
  EXPECT_EQ(payload.call->function, "allreduce");
  EXPECT_EQ(payload.call->bytes, 2048);
  EXPECT_EQ(payload.call->communicator, -1);
  EXPECT_EQ(payload.ranks, 0u);
}

TEST(NcclPayload, CommunicatorTellsItsRanksAndIsNoOperation) {
  const cuda::NcclPayload payload = cuda::read_nccl_payload(
      "ncclCommInitRank",
      R"({"NCCL communicator ID":7,"No. of ranks":8,"Rank":3,"CUDA device":3})");
  EXPECT_FALSE(payload.call);
  EXPECT_EQ(payload.communicator, 7u);
  EXPECT_EQ(payload.ranks, 8u);
}

TEST(NcclPayload, SplitNamesItsParentToo) {
  const cuda::NcclPayload payload = cuda::read_nccl_payload(
      "ncclCommSplit",
      R"({"NCCL communicator ID":9,"Parent NCCL communicator ID":7,"No. of ranks":4})");
  EXPECT_EQ(payload.communicator, 9u);
}

TEST(NcclPayload, ListOfPayloads) {
  EXPECT_TRUE(cuda::read_nccl_payload("ncclAllGather", R"([{"Message size [bytes]":2048}])").call);
}

TEST(NcclPayload, HostileTextIsNoPayload) {
  for (const char* text :
       {"", "[]", "{", "7", R"({"Message size [bytes]":-1})", R"({"Message size [bytes]":1e300})",
        R"({"Message size [bytes]":"x"})"}) {
    EXPECT_FALSE(cuda::read_nccl_payload("ncclAllReduce", text).call) << text;
  }
  EXPECT_FALSE(cuda::read_nccl_payload("ncclGroupEnd", R"({"Message size [bytes]":5})").call);
}

std::string find_libnccl() {
  for (const char* path : {PRESERVE_LIBNCCL, "libnccl.so.2"}) {
    if (path[0] == '/' && std::filesystem::exists(path)) return path;
  }
  return "libnccl.so.2";
}

TEST(NcclPayload, RealLibraryOnANullCommunicator) {
  const test::TemporaryDirectory folder;
  const std::string library = find_libnccl();
  const test::Run probe = test::run_program({PRESERVE_NCCL_CALLER, library});
  if (probe.exit_code == 77) GTEST_SKIP() << "no libnccl on this machine: " << probe.err;
  const std::string trace = folder / "trace.db";
  succeeded(test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "-o", trace, "--", PRESERVE_NCCL_CALLER, library}));
  const TraceDb db = TraceDb::open(trace);
  Query query = db.query(
      "SELECT string.value, payload FROM range JOIN string ON string.id = range.name_id "
      "JOIN string AS domain ON domain.id = range.domain_id WHERE domain.value = 'NCCL' "
      "AND payload IS NOT NULL ORDER BY range.id");
  std::vector<std::string> calls;
  while (query.next()) {
    const cuda::NcclPayload payload = cuda::read_nccl_payload(query.text(0), query.text(1));
    ASSERT_TRUE(payload.call) << query.text(1);
    calls.push_back(payload.call->function + " " + std::to_string(*payload.call->bytes));
  }
  EXPECT_THAT(calls, testing::ElementsAre("allreduce 2048", "allreduce 2048", "allreduce 2048",
                                          "allgather 2048"));
  // Reported by NCCL, but no kernel ever ran: the loss is shown.
  EXPECT_EQ(db.query_integer("SELECT count FROM loss WHERE source = 'nccl' AND kind = 'unmatched'"),
            4);
}

// The kept spool of a program that plays NCCL to the plugin, read back.
cuda::Run plugin_calls(const std::string& version) {
  const test::TemporaryDirectory folder;
  const std::string spool = folder / "spool";
  succeeded(
      test::run_program({PRESERVE_BIN_DIR "/preserve-profile", "--nccl-plugin", "--keep-spool",
                         spool, "-o", folder / "trace.db", "--", PRESERVE_NCCL_HOST, version}));
  cuda::RunReader reader;
  for (const auto& entry : std::filesystem::directory_iterator(spool)) {
    if (entry.path().extension() != ".spool") continue;
    const SpoolFileReader file(entry.path());
    for (const SpoolFileReader::Chunk& chunk : file.chunks()) {
      SpoolCursor cursor(chunk.records);
      SpoolRecord record;
      while (cursor.next(&record)) {
        if (cuda::is_cuda_record(static_cast<uint8_t>(record.head.type))) {
          reader.add(record.head, record.tail, {1, chunk.tid, 0});
        }
      }
    }
  }
  return reader.finish();
}

TEST(NcclPlugin, EveryInterfaceVersionTellsTheSameCollective) {
  if (!PRESERVE_WITH_CUPTI) GTEST_SKIP() << "built without CUDA";
  for (const char* version : {"3", "4", "5"}) {
    SCOPED_TRACE(version);
    const cuda::Run run = plugin_calls(version);
    ASSERT_GE(run.calls.size(), 1u);
    const cuda::LibraryCall& call = run.calls[0];
    EXPECT_EQ(call.function, "allreduce");
    EXPECT_EQ(call.dtype, "ncclBfloat16");
    EXPECT_EQ(call.algorithm, "RING");
    EXPECT_EQ(call.protocol, "");
    EXPECT_EQ(call.bytes, 8192);
    EXPECT_EQ(call.sequence, 41);
    EXPECT_EQ(call.communicator, 0xc0ffee);
    EXPECT_TRUE(call.from_plugin);
    if (version[0] != '3') {
      EXPECT_EQ(run.communicator_ranks.at(0xc0ffee), 8u);
    }
  }
}

TEST(NcclPlugin, SendsAndEventsAfterTheEnd) {
  if (!PRESERVE_WITH_CUPTI) GTEST_SKIP() << "built without CUDA";
  const cuda::Run run = plugin_calls("5");
  ASSERT_EQ(run.calls.size(), 3u);
  EXPECT_EQ(run.calls[1].function, "send");
  EXPECT_EQ(run.calls[1].peer, 5);
  EXPECT_EQ(run.calls[1].bytes, 40);
  EXPECT_EQ(run.calls[1].sequence, std::nullopt);
  EXPECT_EQ(run.calls[2].communicator, 0xc0ffee);
}

}  // namespace
}  // namespace preserve
