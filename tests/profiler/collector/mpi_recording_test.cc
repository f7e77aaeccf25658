// SPDX-License-Identifier: Apache-2.0
// Real MPI programs, recorded by preserve-profile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/profiler/collector/recording.h"
#include "tests/support/exits.h"

namespace preserve::test {
namespace {

using ::testing::HasSubstr;

TEST(MpiRecording, UnannotatedProgramHasCollectivesAndWhatLiesBetween) {
  const Recorded recording(mpirun(2, {kMpiProgram, "plain"}));
  EXPECT_EQ(recording.list("SELECT DISTINCT rank || '/' || world_size FROM process ORDER BY rank"),
            "0/2,1/2");
  EXPECT_EQ(recording.list(
                "SELECT DISTINCT function, bytes, dtype, ranks FROM collective ORDER BY function"),
            "allreduce 2048 MPI_FLOAT 2,broadcast 64 MPI_FLOAT 2");
  EXPECT_EQ(recording.count("collective"), 40);
  EXPECT_EQ(recording.list("SELECT name, COUNT(*) FROM op_named WHERE kind = 'compute' AND rank = "
                           "0 AND name LIKE 'after MPI_Allreduce%' GROUP BY name"),
            "after MPI_Allreduce 2048 B 10");
  EXPECT_GT(recording.count("step WHERE source = 'detected'"), 0);
  EXPECT_EQ(
      recording.count("stream_coverage WHERE attributed_ns + idle_ns <> wall_ns OR idle_ns < 0"),
      0);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

TEST(MpiRecording, TheTransportIsRecorded) {
  const Recorded recording({"env", "OMPI_MCA_btl=self,tcp", "mpirun", "--oversubscribe", "-n", "2",
                            kMpiProgram, "plain"});
  EXPECT_EQ(recording.list("SELECT rank, value FROM env JOIN process ON process.id = process_id "
                           "WHERE name = 'OMPI_MCA_btl' ORDER BY rank"),
            "0 self,tcp,1 self,tcp");
  EXPECT_THAT(recording.list("SELECT value FROM meta WHERE key = 'mpi_library'"),
              testing::MatchesRegex("Open MPI v[0-9.]+[a-z0-9]*"));
}

// Of the ranks alone: mpirun's own memory is on base pages in both.
TEST(MpiRecording, ThePagesOfTheMemoryAreRecorded) {
  const std::string pages = "SELECT value FROM meta WHERE key = 'pages'";
  const Recorded base(mpirun(2, {kMpiProgram, "five"}));
  if (base.list(pages).empty()) GTEST_SKIP() << "this kernel does not count the pages of a process";
  const Recorded huge(mpirun(2, {kMpiProgram, "huge"}));
  std::ifstream policy("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::string words((std::istreambuf_iterator<char>(policy)), {});
  if (words.find("[madvise]") == std::string::npos) GTEST_SKIP() << "no huge pages on request";
  EXPECT_EQ(base.list(pages), "base");
  EXPECT_EQ(huge.list(pages), "huge");
}

TEST(MpiRecording, EveryCollectiveHasItsBytes) {
  const Recorded recording(mpirun(2, {kMpiProgram, "every"}));
  EXPECT_EQ(
      recording.list(
          "SELECT name, function, bytes FROM collective_named WHERE rank = 0 ORDER BY start_ns"),
      "MPI_Barrier barrier 0,MPI_Reduce reduce 4,MPI_Allgather allgather 4,"
      "MPI_Allgatherv allgather 4,MPI_Gather gather 4,MPI_Gatherv gather 4,"
      "MPI_Scatter scatter 4,MPI_Scatterv scatter 4,MPI_Reduce_scatter reduce_scatter 8,"
      "MPI_Reduce_scatter_block reduce_scatter 8,MPI_Alltoall alltoall 8,"
      "MPI_Alltoallv alltoall 8,MPI_Scan scan 4,MPI_Exscan exscan 4");
  EXPECT_EQ(recording.count("(SELECT sequence FROM collective_named GROUP BY communicator, "
                            "sequence, function HAVING COUNT(*) = 2)"),
            14);
}

TEST(MpiRecording, InPlaceTakesTheTypeOfTheOtherSide) {
  const Recorded recording(mpirun(2, {kMpiProgram, "inplace"}));
  for (const char* rank : {"0", "1"}) {
    EXPECT_EQ(recording.list(
                  std::string("SELECT name, bytes, dtype FROM collective_named WHERE rank = ") +
                  rank + " ORDER BY start_ns"),
              "MPI_Allgather 4 MPI_INT,MPI_Allgatherv 4 MPI_INT,MPI_Gather 4 MPI_INT,"
              "MPI_Scatter 4 MPI_INT,MPI_Alltoall 8 MPI_INT,MPI_Alltoallv 8 MPI_INT");
  }
}

TEST(MpiRecording, RequestsThatAreGivenUpAreCountedAndDisturbNoOthers) {
  const Recorded recording(mpirun(2, {kMpiProgram, "freed"}), {"--ring-size", "16MiB"});
  EXPECT_EQ(recording.list("SELECT DISTINCT source, kind, count FROM loss_nonzero"),
            "mpi unmatched 20001");
  EXPECT_EQ(recording.count("collective_named WHERE blocking = 0"), 20);
  // A receive that was waited for ends before its Wait does.
  EXPECT_EQ(
      recording.count(
          "collective_named AS received JOIN op_named AS waited ON waited.process_id = "
          "received.process_id AND waited.name = 'MPI_Wait' AND waited.start_ns > "
          "received.start_ns AND waited.start_ns < received.end_ns WHERE received.blocking = 0"),
      20);
}

TEST(MpiRecording, NonBlockingCallsLastUntilTheyComplete) {
  const Recorded recording(mpirun(2, {kMpiProgram, "nonblocking"}));
  EXPECT_EQ(recording.list("SELECT op.name, COUNT(*) FROM collective_named AS op JOIN stream ON "
                           "stream.id = stream_id AND stream.kind = 'async' WHERE blocking = 0 "
                           "GROUP BY op.name ORDER BY op.name"),
            "MPI_Iallreduce 10,MPI_Irecv 10,MPI_Isend 10");
  // Communication lasts at least from the end of the call that issued it.
  EXPECT_EQ(
      recording.count("op_named AS issued JOIN op_named AS done ON done.start_ns = issued.start_ns "
                      "AND done.process_id = issued.process_id AND done.kind = 'collective' WHERE "
                      "issued.kind = 'other' AND done.end_ns < issued.end_ns"),
      0);
  EXPECT_EQ(recording.count("op_named WHERE name = 'MPI_Waitall'"), 10);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

TEST(MpiRecording, CommunicatorsAreTheSameOnAllRanks) {
  const Recorded recording(mpirun(2, {kMpiProgram, "communicators"}));
  // Two duplicates with two ranks each, although used in different order; two of one rank.
  EXPECT_EQ(recording.count(
                "(SELECT communicator FROM collective WHERE ranks = 2 GROUP BY communicator)"),
            2);
  EXPECT_EQ(recording.count(
                "(SELECT communicator FROM collective WHERE ranks = 1 GROUP BY communicator)"),
            2);
  EXPECT_EQ(recording.count("(SELECT 1 FROM collective_named WHERE ranks = 2 GROUP BY "
                            "communicator, sequence HAVING COUNT(DISTINCT rank) <> 2)"),
            0);
}

TEST(MpiRecording, CommunicatorsHaveOneNumberHoweverTheyBecomeKnown) {
  const Recorded recording(mpirun(2, {kMpiProgram, "numbers"}));
  // Three communicators, told apart by what is sent over them.
  EXPECT_EQ(recording.number("SELECT COUNT(DISTINCT communicator) FROM collective_named WHERE name "
                             "IN ('MPI_Allreduce', 'MPI_Barrier')"),
            3);
  EXPECT_EQ(recording.count(
                "(SELECT 1 FROM collective_named WHERE name IN ('MPI_Allreduce', 'MPI_Barrier') "
                "GROUP BY name, bytes HAVING COUNT(DISTINCT communicator) = 1 AND COUNT(*) = 2)"),
            3);
}

TEST(MpiRecording, OfAnIntercommunicatorOnlyWhatIsSignificantIsRead) {
  const Recorded recording(mpirun(3, {kMpiProgram, "intercommunicator"}));
  EXPECT_EQ(recording.list("SELECT name, rank, bytes FROM collective_named ORDER BY name, rank"),
            "MPI_Alltoall 0 8,MPI_Alltoall 1 8,MPI_Alltoall 2 16,"
            "MPI_Alltoallv 0 8,MPI_Alltoallv 1 8,MPI_Alltoallv 2 16,"
            "MPI_Bcast 0 16,MPI_Bcast 1 0,MPI_Bcast 2 16,"
            "MPI_Scatter 0 0,MPI_Scatter 1 0,MPI_Scatter 2 16");
}

TEST(MpiRecording, CallsThatAreNotRecordedAreCountedByName) {
  const Recorded recording(mpirun(2, {kMpiProgram, "undescribed"}));
  EXPECT_THAT(recording.run.err, HasSubstr("MPI_Startall 6"));
  EXPECT_THAT(recording.run.err, HasSubstr("MPI_Neighbor_allgather 2"));
}

TEST(MpiRecording, AnErrorHandlerMayComeBackOrLeaveTheCall) {
  const Recorded recording(mpirun(2, {kMpiProgram, "errors"}));
  EXPECT_EQ(
      recording.list("SELECT name, COUNT(*) FROM collective_named GROUP BY name ORDER BY name"),
      "MPI_Allreduce 42,MPI_Barrier 4");
  // Only handlers that leave end it: a Wait that failed is an operator too.
  EXPECT_EQ(recording.count("op_named WHERE name = 'MPI_Waitall'"), 2);
}

TEST(MpiRecording, ALeafRangeAroundACallNamesIt) {
  const Recorded recording(mpirun(2, {kMpiProgram, "annotated"}));
  EXPECT_EQ(recording.list("SELECT DISTINCT name, function FROM collective_named"),
            "attn.allreduce allreduce");
  EXPECT_EQ(recording.count("step WHERE phase = 'decode'"), 8);
  // All steps of a rank consist of the same operators.
  EXPECT_EQ(recording.count("(SELECT DISTINCT process_id, names FROM (SELECT process_id, step_id, "
                            "group_concat(kind || name) AS names FROM op_named WHERE step_id IS "
                            "NOT NULL GROUP BY process_id, step_id))"),
            2);
}

TEST(MpiRecording, NoMpiRecordsOnlyRanges) {
  const Recorded recording(mpirun(2, {kMpiProgram, "annotated"}), {"--no-mpi"});
  EXPECT_EQ(recording.count("collective"), 0);
  EXPECT_EQ(recording.count("range_named WHERE name = 'decode_step'"), 8);
}

TEST(MpiRecording, OneTracePerRankMergesIntoTheSameTrace) {
  const TemporaryDirectory folder;
  succeeded(run_program(mpirun(2, {kProfile, "-o", "trace.%r.db", "--", kMpiProgram, "annotated"}),
                        kAllowRoot, folder.path()));
  succeeded(run_program({kProfile, "--merge", "trace.0.db", "trace.1.db", "-o", "trace.db"}, {},
                        folder.path()));
  const TraceDb db = TraceDb::open(folder / "trace.db");
  EXPECT_EQ(count(db, "process"), 2);
  EXPECT_EQ(db.query_integer("SELECT COUNT(DISTINCT rank) FROM op_named"), 2);
  EXPECT_EQ(count(db, "step"), 8);
  EXPECT_EQ(count(db,
                  "(SELECT communicator, sequence FROM collective GROUP BY communicator, sequence "
                  "HAVING COUNT(*) = 2)"),
            4);
  for (const char* table : {"op", "range", "step", "collective", "loss"}) {
    int64_t parts = 0;
    for (const char* part : {"trace.0.db", "trace.1.db"}) {
      parts += count(TraceDb::open(folder / part), table);
    }
    EXPECT_EQ(count(db, table), parts) << table;
  }
  EXPECT_THAT(run_program({kProfile, "--merge", "trace.0.db", "trace.0.db", "-o", "twice.db"}, {},
                          folder.path()),
              exits(2, HasSubstr("another input holds too")));
}

}  // namespace
}  // namespace preserve::test
