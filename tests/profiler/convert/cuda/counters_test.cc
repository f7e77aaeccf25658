// SPDX-License-Identifier: Apache-2.0
// Hardware counters -> the operators that they are of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/profiler/convert/cuda/converted.h"

namespace preserve {
namespace {

using cuda::NodeEvent;
using cuda::RecordType;
using test::Converted;

constexpr const char* kCounts =
    "SELECT string.value, IFNULL(op.graph_node_id, 0), metric, CAST(counter.value AS INTEGER) FROM "
    "counter JOIN op ON op.id = op_id JOIN string ON string.id = op.name_id ORDER BY op.start_ns, "
    "op.id, metric";

class Counted : public testing::Test {
 protected:
  Counted() {
    recording_.add(RecordType::counter_setup,
                   cuda::CounterSetupBody{cuda::kDramCounters, 0, cuda::kNoDevice, 0});
    for (uint64_t id : {1, 2, 3}) {
      recording_.add(RecordType::function, cuda::FunctionBody{id, 0, 0},
                     "kernel_" + std::to_string(id));
    }
  }
  void counters(int64_t time_ns, uint32_t correlation, uint32_t total,
                const std::vector<double>& dram_reads, uint32_t first = 0) {
    cuda::CounterBody body{correlation, 0, first, static_cast<uint32_t>(dram_reads.size()),
                           total,       1};
    std::string blob;
    for (const double value : dram_reads) {
      const double all[cuda::kCounters] = {value, -1, -1, -1};
      blob.append(reinterpret_cast<const char*>(all), sizeof(all));
    }
    recording_.add(RecordType::counters, body, {}, blob, {time_ns, 1, 0});
  }
  // Captures one kernel per entry, from the stream that it names, and makes graph 0xe0 of them.
  void capture(const std::vector<uint64_t>& streams) {
    for (size_t i = 0; i < streams.size(); ++i) {
      cuda::LaunchBody launch{};
      launch.stream = streams[i];
      launch.function = i + 1;
      recording_.launch(100, static_cast<uint32_t>(i) + 1, 0, launch);
      recording_.node(100, 11 + i, NodeEvent::created);
    }
    // Cloned in another order than captured.
    for (size_t i = streams.size(); i-- > 0;) {
      recording_.node(200, 21 + i, NodeEvent::cloned, 11 + i);
    }
    recording_.add(RecordType::executable, cuda::ExecutableBody{0xe0}, {}, {}, {200, 1, 0});
  }
  void launch_graph(int64_t time_ns, uint32_t correlation) {
    recording_.launch_graph(time_ns, correlation, 0, 0xe0);
  }
  test::CudaRecording recording_;
};

TEST_F(Counted, KernelsOfAGraphInTheOrderOfTheirCapture) {
  capture({5, 5, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 3, {10, 20, 30});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("kernel_1 21 dram_read_bytes 10",
                                                        "kernel_2 22 dram_read_bytes 20",
                                                        "kernel_3 23 dram_read_bytes 30"));
  EXPECT_EQ(trace.summary.counters.whole_graphs, 0);
  EXPECT_EQ(trace.db().meta("counters"), "dram");
}

TEST_F(Counted, GraphOfSeveralStreamsIsKnownAsAWhole) {
  capture({5, 6, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 3, {10, 20, 30});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 60"));
  EXPECT_EQ(trace.loss("counters", "written"), 3);
  EXPECT_EQ(trace.summary.counters.whole_graphs, 1);
}

TEST_F(Counted, GraphWithAnotherNumberOfKernelsIsKnownAsAWhole) {
  capture({5, 5, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 2, {10, 20});
  launch_graph(5000, 51);
  counters(6000, 51, 5, {1, 2});  // three found no room: not even the sum is known
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 30"));
  EXPECT_EQ(trace.loss("counters", "unmatched"), 2);
}

TEST_F(Counted, UnknownGraphIsKnownAsAWhole) {
  launch_graph(1000, 50);
  counters(4000, 50, 2, {1, 2});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 3"));
}

TEST_F(Counted, RecordsInPiecesAndValuesThatAreNone) {
  capture(std::vector<uint64_t>(40, 5));
  launch_graph(1000, 50);
  std::vector<double> first(32, 7);
  first[3] = std::numeric_limits<double>::quiet_NaN();
  first[4] = -5;
  first[5] = std::numeric_limits<double>::infinity();
  counters(2000, 50, 40, first);
  counters(2100, 50, 40, std::vector<double>(8, 8), 32);
  const Converted trace(recording_);
  EXPECT_EQ(trace.count("op"), 40);
  EXPECT_EQ(trace.count("counter"), 37);
  EXPECT_EQ(trace.number("SELECT SUM(value) FROM counter"), 29 * 7 + 8 * 8);
}

TEST_F(Counted, WhatCannotBePlacedIsCounted) {
  counters(500, 1, 1, {1});  // before any launch
  recording_.launch_with(1000, 2, 1, {});
  counters(1100, 3, 1, {1});      // of another launch
  counters(1200, 2, 1, {1}, 32);  // its first part was lost
  recording_.launch_with(2000, 4, 1, {});
  counters(2100, 4, 2, {1, 2});  // something else ran meanwhile
  recording_.add_raw(RecordType::counters, std::string(8, 'x'));
  cuda::CounterBody liar{4, 0, 0, 30, 30, 1};
  recording_.add(RecordType::counters, liar);  // no values behind it
  recording_.add(RecordType::lost, cuda::LostBody{4, cuda::LossPlace::counter_failed, 0});
  recording_.add(RecordType::lost, cuda::LostBody{6, cuda::LossPlace::counter_ranges, 0});
  const Converted trace(recording_);
  EXPECT_EQ(trace.count("counter"), 0);
  EXPECT_THAT(trace.losses("counters"),
              testing::ElementsAre("dropped 6", "received 15", "unmatched 5", "unreadable 4"));
}

}  // namespace
}  // namespace preserve
