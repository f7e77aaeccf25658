// SPDX-License-Identifier: Apache-2.0
// preserve-replay after its command line is parsed: where to run, with how many processes, what to
// write.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/cli.h"
#include "replay/device_choice.h"
#include "replay/gpu/device.h"
#include "replay/measure/measure.h"
#include "replay/ranks/launch.h"
#include "replay/step/job.h"

namespace preserve {

enum class Collectives { automatic, nccl, stand_in };  // automatic: nccl with a GPU for each rank
const char* to_string(Collectives collectives);

struct ReplayArguments {
  ReplayRequest request;
  MeasureOptions measure;
  LaunchOptions launch;
  std::string output = "replay.db";
  bool force = false;
  DeviceChoice device{DeviceChoice::Kind::automatic};
  Collectives collectives = Collectives::automatic;
  std::string device_file;  // device.json with fits of collectives
  bool allow_device_mismatch = false;
  std::optional<double> fail_if_slower;  // by more than this share
  std::string worker;                    // where the rank processes write
  std::vector<std::string> words;        // the command line itself: workers get it once more
};

void define_replay(CLI::App& app, ReplayArguments& arguments);

// What the tool needs from outside; tests pass others.
struct ReplayWorld {
  std::function<int()> count_gpus;
  std::function<std::unique_ptr<GpuDevice>(int ordinal)> open_gpu;
  std::function<int(const RankLaunch&)> run_ranks;
};

// The exit code.
int run_replay(Console& console, const ReplayArguments& arguments, const ReplayWorld& world);

}  // namespace preserve
