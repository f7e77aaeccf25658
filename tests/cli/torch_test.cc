// SPDX-License-Identifier: Apache-2.0
// preserve-profile --torch: on a stand-in for PyTorch that needs nothing installed, and on PyTorch
// itself where a Python has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/profiler/collector/recording.h"
#include "tests/support/commands.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kFolder = PRESERVE_SOURCE_DIR "/tests/hooks/torch/";

const std::string kTensors =
    "(SELECT string.value AS name, tensor.* FROM tensor JOIN string ON string.id = name_id)";

class TorchStandIn : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    recording_ =
        std::make_unique<Recording>(std::vector<std::string>{"python3", kFolder + "program.py"},
                                    std::vector<std::string>{"--torch"});
  }
  static void TearDownTestSuite() { recording_.reset(); }
  static inline std::unique_ptr<Recording> recording_;
};

TEST_F(TorchStandIn, TheProgramSeesNoDifference) {
  const test::Run plain = run_program({"python3", kFolder + "program.py"});
  EXPECT_EQ(recording_->run.exit_code, 0) << recording_->run.err;
  EXPECT_EQ(recording_->run.out, plain.out);
  EXPECT_THAT(
      plain.out,
      HasSubstr(
          "path []\nerror 'of the program'\nwork Work True\n"
          "parts (8,)\nerror no such group\nerror no such group\nname __call__ all_reduce\n"));
}

TEST_F(TorchStandIn, ModulesAreRangesInsideTheStep) {
  EXPECT_THAT(recording_->rows("SELECT name, COUNT(*) FROM range_named WHERE kind = 'push_pop' "
                               "GROUP BY name ORDER BY name"),
              ElementsAre("decode_step 5", "distributeddataparallel3 1", "head 5", "l0 6", "l1 5",
                          "module2 1", "prefill_step 1"));
  // After the error nothing is left open.
  EXPECT_EQ(recording_->count("range WHERE end_ns IS NULL AND kind <> 'mark'"), 0);
  EXPECT_EQ(recording_->count("range_named WHERE kind = 'push_pop' AND depth <> (name NOT LIKE "
                              "'%step' AND name NOT IN ('module2', 'distributeddataparallel3'))"),
            0);
}

TEST_F(TorchStandIn, WhatTheHookDoesNotSeeIsSaid) {
  for (const char* part :
       {"preserve: DistributedDataParallel calls its collectives from C++",
        "preserve: past_key_values is an argument: a cache that no module has"}) {
    EXPECT_THAT(recording_->run.err, HasSubstr(part));
  }
}

TEST_F(TorchStandIn, MemoryHasTheNamesOfItsModules) {
  EXPECT_THAT(recording_->rows("SELECT name, bytes, role FROM " + kTensors + " ORDER BY name"),
              ElementsAre("head.weight 1600 weight", "l0.bias 8 weight", "l0.k_cache 256 kv",
                          "l0.kv_cache.0 32 kv", "l0.kv_cache.cache_v 512 kv",
                          "l0.kv_cache.past_key_value.k 16 kv", "l0.weight 128 weight",
                          "l1.bias 8 weight", "l1.k_cache 256 kv", "l1.kv_cache.0 32 kv",
                          "l1.kv_cache.past_key_value.k 16 kv", "l1.weight 128 weight"));
}

TEST_F(TorchStandIn, CollectivesOfGloo) {
  EXPECT_THAT(recording_->rows("SELECT function, bytes, dtype, ranks, COUNT(*) FROM collective "
                               "GROUP BY function, bytes ORDER BY 1, 2"),
              ElementsAre("allgather 32 float32 4 1", "allreduce 16 float32 4 12",
                          "allreduce 1024 float32 4 1", "allreduce 2048 float32 4 1",
                          "broadcast 16 float32 4 1"));
  EXPECT_EQ(recording_->number("SELECT COUNT(DISTINCT communicator) FROM collective"), 1);
  EXPECT_EQ(recording_->number("SELECT MAX(sequence) FROM collective"), 15);
  EXPECT_EQ(recording_->number("SELECT peer FROM collective WHERE function = 'broadcast'"), 2);
  EXPECT_THAT(recording_->rows("SELECT rank || '/' || world_size FROM process"),
              ElementsAre("3/4"));
}

TEST(Torch, ASitecustomizeOfTheProgramStillRuns) {
  const Recording recording({"python3", kFolder + "program.py"}, {"--torch"},
                            {"PYTHONPATH=" + kFolder + "site"});
  EXPECT_THAT(recording.run.out, HasSubstr("the program's own sitecustomize as sitecustomize\n"));
}

TEST(Torch, APythonProgramWithoutTorchIsLeftAlone) {
  const Recording recording({"python3", "-c", "import sys; print('torch' in sys.modules)"},
                            {"--torch"});
  EXPECT_EQ(recording.run.out, "False\n");
  EXPECT_THAT(recording.run.err, HasSubstr("nothing was recorded"));
}

// A Python that has PyTorch; empty when there is none.
std::string python_with_torch() {
  for (const char* python : {"python3", "/usr/bin/python3"}) {
    if (run_program({python, "-c", "import torch"}).exit_code == 0) return python;
  }
  return {};
}

TEST(Torch, ADecoderOfTwoRanks) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no python3 has torch (Debian: python3-torch)";
  const Words command =
      words(python, PRESERVE_SOURCE_DIR "/examples/torch_decoder/decoder.py", "--ranks", "2",
            "--layers", "2", "--hidden", "64", "--inner", "128", "--heads", "4", "--tokens", "6");
  const auto checksum = [](const std::string& out) {
    std::smatch found;
    return std::regex_search(out, found, std::regex("checksum: (\\w+)")) ? found.str(1) : out;
  };
  const Recorded recording(command, {"--torch"});
  EXPECT_EQ(checksum(recording.run.out), checksum(run_program(command).out));
  EXPECT_THAT(recording.rows("SELECT rank || '/' || world_size FROM process ORDER BY rank"),
              ElementsAre("0/2", "1/2"));
  EXPECT_THAT(
      recording.rows("SELECT phase, source, COUNT(*) FROM step GROUP BY phase ORDER BY phase"),
      ElementsAre("decode nvtx 10", "prefill nvtx 2"));
  // Two per layer and step; of one token 64 numbers of 4 bytes, of the prompt 16 times as much.
  EXPECT_THAT(recording.rows(
                  "SELECT function, bytes, COUNT(*) FROM collective GROUP BY bytes ORDER BY bytes"),
              ElementsAre("allreduce 256 40", "allreduce 4096 8"));
  EXPECT_THAT(
      recording.rows("SELECT DISTINCT name FROM " + kTensors + " WHERE role = 'kv' ORDER BY name"),
      ElementsAre("layers.0.attention.k_cache", "layers.0.attention.v_cache",
                  "layers.1.attention.k_cache", "layers.1.attention.v_cache"));
  EXPECT_EQ(recording.number("SELECT SUM(bytes) FROM " + kTensors +
                             " WHERE name = 'layers.1.mlp.down.weight'"),
            64 * 128 * 4);
  EXPECT_THAT(recording.rows("SELECT DISTINCT name FROM range_named"),
              Contains("layers.1.attention.o"));
  EXPECT_THAT(recording.rows("SELECT DISTINCT name FROM range_named"), Not(Contains("embed")));
}

}  // namespace
}  // namespace preserve::test
