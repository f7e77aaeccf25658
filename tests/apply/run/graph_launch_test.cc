// SPDX-License-Identifier: Apache-2.0
// preserve-apply of a GPU's schedule, as a user runs it, on a machine without a GPU: the program
// loads the library as libcuda does, and goes on without a driver, or with an emulated one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/output_file.h"
#include "planner/schedule/schedule.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kSteps = 6;

// Of steps in one stream of a GPU.
struct Recording {
  explicit Recording(const fs::path& path) : db(TraceDb::create(path)) {}
  TensorId tensor(const std::string& name, int64_t bytes, const std::string& source) {
    return db.add(
        TensorRow{.process = process, .name = db.intern(name), .bytes = bytes, .source = source});
  }
  void begin_step(int number) {
    start_ns = 1000 + number * 10'000;
    step = db.add(StepRow{process, number, StepPhase::decode, start_ns, start_ns + 9000, "nvtx"});
  }
  // Times since the step began.
  OpId op(OpKind kind, const std::string& name, int64_t from_ns, int64_t to_ns) {
    return db.add(OpRow{.stream = stream,
                        .kind = kind,
                        .name = db.intern(name),
                        .start_ns = start_ns + from_ns,
                        .end_ns = start_ns + to_ns,
                        .step = step});
  }
  TraceDb db;
  const ProcessId process = db.add(ProcessRow{"host", 1, {}, {}, {}, "loop", 0, 1'000'000});
  const DeviceId device = db.add(DeviceRow{"host", "gpu", "GPU", 50 << 20});
  const StreamId stream = db.add(StreamRow{process, device, StreamKind::gpu, 7, "GPU 0 stream 7"});
  StepId step;
  int64_t start_ns = 0;
};

// Of a trace.db whose steps have so many operators; fetches nothing yet.
Schedule schedule_of(const fs::path& trace, int32_t ops, int64_t ctas) {
  Schedule schedule;
  schedule.trace_path = trace.string();
  schedule.trace_sha256 = sha256_of_file(trace);
  schedule.step_ops = ops;
  schedule.budget_bytes = 1 << 20;
  schedule.device_name = "GPU";
  schedule.method = IssueMethod{"bulk_l2", "spare", 4096, ctas};
  schedule.plan.strategy = Strategy::flow;
  schedule.plan.verdict = PlanVerdict::prefetch;
  return schedule;
}

// Beside a collective, for the operator behind it.
PlannedWindow window_of(int32_t ordinal, const std::string& collective, const std::string& consumer,
                        const std::string& tensor, int64_t bytes) {
  PlannedWindow window;
  window.ordinal = ordinal;
  window.name = collective;
  window.binds = "window";
  window.used_bytes = bytes;
  PlannedPrefetch& prefetch = window.prefetches.emplace_back();
  prefetch.tensor = tensor;
  prefetch.consumer_ordinal = ordinal + 1;
  prefetch.consumer = consumer;
  prefetch.length_bytes = bytes;
  return window;
}

class Launch : public testing::Test {
 protected:
  // Under the schedule.
  test::Run run(const test::Words& options, const test::Words& program,
                const test::Words& environment) const {
    std::ofstream(folder_ / "schedule.json") << to_json(schedule_);
    return test::run_program(
        test::words(PRESERVE_BIN_DIR "/preserve-apply", "schedule.json", options, "--", program),
        environment, folder_.path());
  }
  const test::TemporaryDirectory folder_;
  Schedule schedule_;
};

class GraphLaunch : public Launch {
 protected:
  GraphLaunch() {
    Recording recording(folder_ / "trace.db");
    const TensorId tensor = recording.tensor("gemm.0.arg8", 1 << 20, "params");
    for (int i = 0; i < kSteps; ++i) {
      recording.begin_step(i);
      recording.op(OpKind::collective, "cross_device_reduce(float*)", 0, 3000);
      const OpId op = recording.op(OpKind::compute, "gemm(float*)", 4000, 9000);
      recording.db.add(AccessRow{op, 0, tensor, 0, 1 << 20, AccessMode::read, "params", 0.6});
    }
    recording.db.finish();
    schedule_ = schedule_of(folder_ / "trace.db", 2, 8);
    schedule_.plan.windows = {
        window_of(0, "cross_device_reduce(float*)", "gemm(float*)", "gemm.0.arg8", 4096)};
  }
  test::Run apply(const test::Words& options, const test::Words& environment = {}) const {
    return run(options, {PRESERVE_INJECTED, "7"}, environment);
  }
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
  EXPECT_THAT(apply({"--via", "progress"}),
              test::exits(2, HasSubstr("--via progress is for MPI programs")));
  for (const char* not_built : {"torch", "stream"}) {
    EXPECT_THAT(apply({"--via", not_built}),
                test::exits(2, HasSubstr("CUDA programs are reached by inject alone")))
        << not_built;
  }
  EXPECT_EQ(apply({"--via", "inject"}).exit_code, 7);
  EXPECT_THAT(apply({}, {"CUDA_INJECTION64_PATH=/opt/other.so"}),
              test::exits(2, HasSubstr("libcuda loads one tool alone")));
  schedule_.trace_sha256 = std::string(64, 'a');
  EXPECT_EQ(apply({}).exit_code, 2);
  schedule_.trace_path = "gone.db";
  EXPECT_EQ(apply({}).exit_code, 2);
}

TEST_F(GraphLaunch, AProcessWithSeveralGpusIsSeveralRanksOfTheRecording) {
  schedule_.ranks = 8;
  EXPECT_EQ(apply({}, {"OMPI_COMM_WORLD_SIZE=8"}).exit_code, 7);
  for (const char* fewer : {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_SIZE=7"}) {
    EXPECT_THAT(apply({}, {fewer}), test::exits(7, HasSubstr("of a schedule of 8 ranks"))) << fewer;
  }
  for (const char* other : {"OMPI_COMM_WORLD_SIZE=2x", "OMPI_COMM_WORLD_SIZE=16"}) {
    const test::Run refused = apply({}, {other});
    EXPECT_THAT(refused,
                test::exits(2, testing::AllOf(
                                   HasSubstr("planned for 8 ranks, but"),
                                   HasSubstr("each GPU of a process is a rank of the recording"))))
        << other;
  }
}

#ifdef PRESERVE_GRAPH_PROGRAM

// A loop of three layers, whose plan fetches the norm's weight of the second beside a collective.
class EmulatedGraphLaunch : public Launch {
 protected:
  static constexpr int kKernels = 9;
  EmulatedGraphLaunch() {
    Recording recording(folder_ / "trace.db");
    recording.tensor("layers.1.norm", 4096, "nvtx_mem");
    const char* names[] = {"void vllm::norm<float>(float*)", "gemm", "cross_device_reduce"};
    for (int i = 0; i < kSteps; ++i) {
      recording.begin_step(i);
      for (int k = 0; k < kKernels; ++k) {
        recording.op(k % 3 == 2 ? OpKind::collective : OpKind::compute,
                     k == 0 ? "embedding" : names[k % 3], k * 1000, k * 1000 + 900);
      }
    }
    recording.db.finish();
    schedule_ = schedule_of(folder_ / "trace.db", kKernels, 2);
    plan("vllm::norm.1.arg8");
  }
  void plan(const std::string& tensor) {
    schedule_.plan.windows = {
        window_of(2, "cross_device_reduce", "void vllm::norm<float>(float*)", tensor, 2048)};
  }
  test::Run run(const test::Words& options, const test::Words& program,
                const test::Words& more = {}) const {
    test::Words environment = more;
    if (more.empty() || more[0].find("PRESERVE_CUPTI=") != 0) {
      environment.emplace_back("PRESERVE_CUPTI=" PRESERVE_EMULATED_LIBCUDA);
    }
    return Launch::run(test::words("-f", options), test::words(PRESERVE_GRAPH_PROGRAM, program),
                       environment);
  }
  static std::string alone(const test::Words& program) {
    return test::run_program(test::words(PRESERVE_GRAPH_PROGRAM, program)).out;
  }
  static int requests(const test::Run& run) {
    const size_t at = run.err.find(" requests");
    return at == std::string::npos ? -1 : std::stoi(run.err.substr(run.err.rfind('\n', at) + 1));
  }
  std::string number(const std::string& query) const {
    const TraceDb db = TraceDb::open(folder_ / "apply.db");
    Query rows = db.query(query.c_str());
    return rows.next() ? std::string(rows.text(0)) : "none";
  }
};

TEST_F(EmulatedGraphLaunch, ThePlanComesIntoTheProgramsGraphAndItsOutputStays) {
  for (const char* of_template : {"keep", "give-up"}) {
    const std::vector<std::string> program{"120", of_template, "fork"};
    const test::Run applied = succeeded(run({"--compare"}, program));
    EXPECT_EQ(applied.out, alone(program));
    EXPECT_GT(requests(applied), 0) << applied.err;
    EXPECT_THAT(applied.err,
                HasSubstr("1 graph with 1 node of the plan, which take about 9.8 KiB"));
    EXPECT_EQ(applied.err.find("switched off, as arm null does") == std::string::npos,
              std::string_view(of_template) == "keep");
    EXPECT_EQ(number("SELECT value FROM meta WHERE key = 'via'"), "inject");
    EXPECT_EQ(number("SELECT count(DISTINCT arm_id) FROM sample"), "3");
  }
}

TEST_F(EmulatedGraphLaunch, NvtxRegionsSayWhereTensorsAre) {
  plan("layers.1.norm");
  const test::Run named = run({"--compare"}, {"60", "keep", "named"});
  EXPECT_EQ(named.out, alone({"60", "keep", "named"}));
  EXPECT_GT(requests(named), 0) << named.err;
  EXPECT_THAT(named.err, testing::Not(HasSubstr("not fetched")));
  const test::Run unnamed = run({"--compare"}, {"60", "keep", "-"});
  EXPECT_THAT(unnamed.err, HasSubstr("2.0 KiB of the plan per step are not fetched"));
  EXPECT_EQ(requests(unnamed), 0);
  const test::Run held =
      run({"--compare"}, {"60", "keep", "named"}, {"NVTX_INJECTION64_PATH=/opt/other.so"});
  EXPECT_THAT(held.err, HasSubstr("NVTX_INJECTION64_PATH is set to /opt/other.so"));
  plan("layers.7.norm");
  EXPECT_THAT(run({}, {"60", "keep", "named"}),
              test::exits(2, HasSubstr("neither parameters of kernels nor NVTX memory regions")));
}

TEST_F(EmulatedGraphLaunch, WithoutCuptiTheProgramRunsAsItIs) {
  const test::Run applied =
      succeeded(run({"--compare"}, {"20", "keep", "-"}, {"PRESERVE_CUPTI=/nowhere/libcupti.so"}));
  EXPECT_EQ(applied.out, alone({"20", "keep", "-"}));
  EXPECT_THAT(applied.err, HasSubstr("CUPTI is missing, or another tool holds it"));
}

#endif

}  // namespace
}  // namespace preserve
