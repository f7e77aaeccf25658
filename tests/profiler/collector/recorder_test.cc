// SPDX-License-Identifier: Apache-2.0
// The collector's core with nothing of NVTX or MPI around it, in a process of its own.
#include "profiler/collector/recorder.h"

#include <gtest/gtest.h>

#include "profiler/convert/convert.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/spool_reader.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

TEST(Recorder, RingsPassFromThreadToThreadWhileTheyAreWritten) {
  const TemporaryDirectory folder;
  constexpr int kThreads = 2000, kRecords = 50;
  // Room for 64 rings: nearly every thread gets one that another has left.
  succeeded(run_program({PRESERVE_PROGRAM_DIR "/recorder_program", std::to_string(kThreads),
                         std::to_string(kRecords)},
                        {"PRESERVE_SPOOL_DIR=" + folder.path().string(), "PRESERVE_FLUSH_MS=1",
                         "PRESERVE_RING_BYTES=4096", "PRESERVE_RING_TOTAL=262144"},
                        folder.path()));
  const auto files = spool_files(folder.path());
  ASSERT_EQ(files.size(), 1U);
  const SpoolFileReader file(files[0]);
  const ProcessImage image(file);
  EXPECT_TRUE(image.complete);
  int64_t read = 0;
  for (const auto& [thread, chunks] : image.threads) {
    for (const std::string_view chunk : chunks) {
      SpoolCursor cursor(chunk);
      SpoolRecord record;
      while (cursor.next(&record)) {
        ++read;
        EXPECT_EQ(record.head.type, spool::RecordType::mark);
        EXPECT_EQ(record.tail, "recorded");
      }
      EXPECT_FALSE(cursor.damaged());
    }
  }
  EXPECT_EQ(image.nvtx.stated, kThreads * kRecords);
  EXPECT_EQ(read + image.nvtx.dropped, kThreads * kRecords);
}

// As where many processes together fill it.
TEST(Recorder, LeavesAPartOfTheDiskFree) {
  const TemporaryDirectory folder;
  succeeded(run_program({PRESERVE_PROGRAM_DIR "/recorder_program", "4", "50"},
                        {"PRESERVE_SPOOL_DIR=" + folder.path().string(), "PRESERVE_KEEP_LAST=1",
                         "PRESERVE_LEAST_FREE=4000000000000000000"},
                        folder.path()));
  const SpoolFileReader file(spool_files(folder.path()).at(0));
  const ProcessImage image(file);
  EXPECT_TRUE(image.complete);
  EXPECT_TRUE(image.disk_was_short);
  EXPECT_FALSE(image.limit_reached);
  EXPECT_TRUE(image.threads.empty());
  EXPECT_EQ(image.nvtx.stated, 200);
}

}  // namespace
}  // namespace preserve::test
