// SPDX-License-Identifier: Apache-2.0
// preserve-apply of a GPU's schedule, as a user runs it, on a machine without a GPU: the program
// loads the library as libcuda does, and goes on without a driver.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/output_file.h"
#include "planner/schedule/schedule.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kSteps = 6;

void write_trace(const fs::path& path) {
  TraceDb db = TraceDb::create(path);
  const ProcessId process = db.add(ProcessRow{"host", 1, {}, {}, {}, "loop", 0, 1'000'000});
  const DeviceId device = db.add(DeviceRow{"host", "gpu", "GPU", 50 << 20});
  const StreamId stream = db.add(StreamRow{process, device, StreamKind::gpu, 7, "GPU 0 stream 7"});
  const StringId reduce = db.intern("cross_device_reduce(float*)");
  const StringId gemm = db.intern("gemm(float*)");
  const StringId tensor = db.intern("gemm.0.arg8");
  TensorRow weight;
  weight.process = process;
  weight.name = tensor;
  weight.bytes = 1 << 20;
  weight.source = "params";
  const TensorId row = db.add(weight);
  for (int i = 0; i < kSteps; ++i) {
    const int64_t start_ns = 1000 + i * 10'000;
    const StepId step =
        db.add(StepRow{process, i, StepPhase::decode, start_ns, start_ns + 9000, "nvtx"});
    db.add(
        OpRow{stream, OpKind::collective, reduce, start_ns, start_ns + 3000, {}, {}, {}, {}, step});
    const OpId op = db.add(OpRow{
        stream, OpKind::compute, gemm, start_ns + 4000, start_ns + 9000, {}, {}, {}, {}, step});
    db.add(AccessRow{op, 0, row, 0, 1 << 20, AccessMode::read, "params", 0.6});
  }
  db.finish();
}

class GraphLaunch : public testing::Test {
 protected:
  GraphLaunch() {
    write_trace(folder_ / "trace.db");
    schedule_.trace_path = (folder_ / "trace.db").string();
    schedule_.trace_sha256 = sha256_of_file(folder_ / "trace.db");
    schedule_.step_ops = 2;
    schedule_.budget_bytes = 1 << 20;
    schedule_.device_name = "GPU";
    schedule_.method = IssueMethod{"bulk_l2", "spare", 4096, 8};
    PlannedWindow window;
    window.name = "cross_device_reduce(float*)";
    window.binds = "window";
    window.used_bytes = 4096;
    PlannedPrefetch prefetch;
    prefetch.tensor = "gemm.0.arg8";
    prefetch.consumer_ordinal = 1;
    prefetch.consumer = "gemm(float*)";
    prefetch.length_bytes = 4096;
    window.prefetches = {prefetch};
    schedule_.plan.strategy = Strategy::flow;
    schedule_.plan.verdict = PlanVerdict::prefetch;
    schedule_.plan.windows = {window};
  }
  test::Run apply(std::vector<std::string> options,
                  const std::vector<std::string>& environment = {}) {
    std::ofstream(folder_ / "schedule.json") << to_json(schedule_);
    std::vector<std::string> command{PRESERVE_BIN_DIR "/preserve-apply", "schedule.json"};
    command.insert(command.end(), options.begin(), options.end());
    command.insert(command.end(), {"--", PRESERVE_INJECTED, "7"});
    return test::run_program(command, environment, folder_.path());
  }
  test::TemporaryDirectory folder_;
  Schedule schedule_;
};

TEST_F(GraphLaunch, WithoutADriverTheProgramRunsAsItIs) {
  const test::Run run = apply({});
  EXPECT_EQ(run.exit_code, 7) << run.err;
  EXPECT_THAT(
      run.err,
      HasSubstr("the CUDA driver is older than 12.4, or no NVIDIA driver (no libcuda.so.1)"));
  EXPECT_THAT(run.err, HasSubstr("no CUDA graph of the program got the plan"));
  EXPECT_FALSE(fs::exists(folder_ / "apply.db"));
}

TEST_F(GraphLaunch, RefusesAnotherWayAnotherToolAndAnotherTrace) {
  const test::Run way = apply({"--via", "progress"});
  EXPECT_EQ(way.exit_code, 2);
  EXPECT_THAT(way.err, HasSubstr("--via progress is for MPI programs"));
  EXPECT_EQ(apply({"--via", "inject"}).exit_code, 7);
  const test::Run tool = apply({}, {"CUDA_INJECTION64_PATH=/opt/other.so"});
  EXPECT_EQ(tool.exit_code, 2);
  EXPECT_THAT(tool.err, HasSubstr("libcuda loads one tool alone"));
  schedule_.trace_sha256 = std::string(64, 'a');
  EXPECT_EQ(apply({}).exit_code, 2);
  schedule_.trace_path = "gone.db";
  EXPECT_EQ(apply({}).exit_code, 2);
}

}  // namespace
}  // namespace preserve
