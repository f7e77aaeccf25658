// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "planner/schedule/device.h"
#include "replay/cpu/host_cores.h"
#include "replay/ranks/launch.h"
#include "tests/support/commands.h"
#include "tests/support/examples.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using testing::HasSubstr;

const std::string kPublished = test::device_file("h100-sxm");

class CalibrateCli : public testing::Test {
 protected:
  test::Run calibrate(const test::Words& more, const test::Words& environment = {}) {
    return test::run_program(
        test::words(PRESERVE_BIN_DIR "/preserve-calibrate", "--quick", "--color", "never", more),
        test::words(environment, test::kNoLeakCheck), directory_.path());
  }
  test::TemporaryDirectory directory_;
};

TEST_F(CalibrateCli, WritesAValidDeviceFile) {
  const test::Run run = succeeded(calibrate({"--ranks", "1", "-o", "device.json"}));
  EXPECT_THAT(run.out, HasSubstr("memory, per rank"));
  EXPECT_THAT(run.err, HasSubstr("next: preserve-profile"));
  const DeviceModel device = load_device(directory_ / "device.json");
  EXPECT_EQ(device.kind, "cpu");
  EXPECT_EQ(device.source, "measured");
  EXPECT_EQ(device.ranks, 1);
  EXPECT_GT(device.cache_bytes, 0);
  EXPECT_GT(device.memory_bandwidth_bytes_per_s, 0);
  EXPECT_GT(device.cache_read_bandwidth_bytes_per_s, 0);
  EXPECT_LE(device.cache_budget_bytes, device.cache_bytes);
  EXPECT_TRUE(device.collectives.empty());  // one rank waits for nobody
  EXPECT_EQ(device.slowdown_per_byte_ns, 0);
  EXPECT_FALSE(device.notes.empty());
  for (const PrefetchMethod& method : device.methods) {
    EXPECT_GT(method.chunk_bytes, 0);
    EXPECT_THAT(method.placement, testing::AnyOf("consumer", "spare"));
  }
}

TEST_F(CalibrateCli, StandardOutputIsTheFileAlone) {
  const test::Run run = succeeded(calibrate({"--ranks", "1", "-o", "-"}));
  EXPECT_EQ(run.out.substr(0, 1), "{");
  EXPECT_THAT(run.out, HasSubstr("\"schema\": \"preserve/device\""));
  EXPECT_THAT(run.err, HasSubstr("memory, per rank"));
}

TEST_F(CalibrateCli, MoreRanksThanCoresIsAWarningAndANote) {
  const int ranks = static_cast<int>(find_host_cores().cores.size()) + 1;
  if (ranks > 17) GTEST_SKIP() << "too many cores to oversubscribe for a test";
  EXPECT_THAT(calibrate({"--ranks", std::to_string(ranks), "-o", "device.json"}),
              test::exits(0, HasSubstr("oversubscribed")));
  EXPECT_THAT(load_device(directory_ / "device.json").notes,
              testing::Contains(HasSubstr("more ranks than cores")));
}

TEST_F(CalibrateCli, BadOptionsLeaveNothing) {
  for (const test::Words& bad : {test::Words{"--ranks", "0"},
                                 {"--ranks", "many"},
                                 {"--device", "tpu"},
                                 {"--device", "cuda"},
                                 {"--device", "cuda:"},
                                 {"--device", "cuda:-1"},
                                 {"--device", "cuda:0x"},
                                 {"--device", "cuda:99999999999"},
                                 {"--device", ""},
                                 {"--device", "cuda:0", "--ranks", "2"},
                                 {"--published", kPublished},
                                 {"-o", "no/such/folder/device.json"}}) {
    EXPECT_EQ(calibrate(bad).exit_code, 2) << bad[0];
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  }
}

// --- GPUs: what can be said without one ----------------------------------------------------------

// Hides the GPUs of a machine that has some.
const std::vector<std::string> kNoGpu{"CUDA_VISIBLE_DEVICES=-1"};

TEST_F(CalibrateCli, WithoutAGpuItSaysWhatIsMissing) {
  EXPECT_THAT(calibrate({"--device", "cuda:0", "-o", "device.json"}, kNoGpu),
              test::exits(2, testing::ContainsRegex("CUDA|driver")));
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST_F(CalibrateCli, WithoutAGpuNothingIsWaitedFor) {
  const int lock = ::open(kMeasurementLockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ASSERT_GE(lock, 0);
  ::flock(lock, LOCK_EX | LOCK_NB);  // when somebody else has it, all the better
  const test::Run run = calibrate({"--device", "cuda:0", "-o", "device.json"}, kNoGpu);
  ::close(lock);
  EXPECT_THAT(run, test::exits(2, testing::Not(HasSubstr("waiting"))));
}

TEST_F(CalibrateCli, AGpuNeedsNoMpi) {
  EXPECT_THAT(calibrate({"--device", "cuda:0", "-o", "device.json"},
                        {"PATH=/nonexistent", "CUDA_VISIBLE_DEVICES=-1"}),
              test::exits(2, testing::Not(HasSubstr("mpirun"))));
}

TEST_F(CalibrateCli, AGpuIsMeasuredByOneProcess) {
  EXPECT_THAT(calibrate({"--device", "cuda:0", "-o", "device.json"},
                        test::words(kNoGpu, "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=4")),
              test::exits(2, HasSubstr("without mpirun")));
}

TEST_F(CalibrateCli, ThePublishedFileIsCheckedBeforeTheGpu) {
  EXPECT_THAT(
      calibrate({"--device", "cuda:0", "--published", "none.json", "-o", "device.json"}, kNoGpu),
      test::exits(2, HasSubstr("none.json")));

  std::filesystem::copy_file(kPublished, directory_ / "published.json");
  EXPECT_THAT(calibrate({"--device", "cuda:0", "--published", "published.json", "-f", "-o",
                         "published.json"},
                        kNoGpu),
              test::exits(2, HasSubstr("is an input")));

  DeviceModel of_a_cpu = load_device(kPublished);
  of_a_cpu.kind = "cpu";
  std::ofstream(directory_ / "cpu.json") << to_json(of_a_cpu);
  EXPECT_THAT(
      calibrate({"--device", "cuda:0", "--published", "cpu.json", "-o", "device.json"}, kNoGpu),
      test::exits(2, HasSubstr("not about a GPU")));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "device.json"));
}

TEST_F(CalibrateCli, HelpNamesGpus) {
  const test::Run run = succeeded(calibrate({"--help"}));
  EXPECT_THAT(run.out, HasSubstr("cuda:N"));
  EXPECT_THAT(run.out, HasSubstr("--published"));
}

TEST_F(CalibrateCli, WithoutMpirunItSaysSo) {
  EXPECT_THAT(calibrate({"--ranks", "2", "-o", "device.json"}, {"PATH=/nonexistent"}),
              test::exits(2, HasSubstr("cannot find mpirun in PATH")));
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

}  // namespace
}  // namespace preserve
