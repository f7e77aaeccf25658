// SPDX-License-Identifier: Apache-2.0
// preserve-replay behind its command line: where to run, with how many processes, what to write.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/cli.h"
#include "replay/gpu/device.h"
#include "replay/ranks/launch.h"

namespace preserve {

struct ReplayArguments {
  std::string trace, schedule;
  std::string output = "replay.db";
  bool force = false;
  std::string device = "auto";  // cpu, cuda, cuda:N
  std::string collective;       // nccl, stand-in; empty: nccl where there are as many GPUs as ranks
  std::string device_file;      // device.json with fits of collectives
  bool allow_device_mismatch = false;
  std::string link;  // empty: the schedule's
  bool candidates = false;
  bool oversubscribe = false;
  std::string time_limit = "15s";
  uint64_t seed = 1;
  std::string fail_if;
  std::string worker;  // where the rank processes write
};

void define_replay(CLI::App& app, ReplayArguments& arguments);

// What the tool meets outside itself; tests hand in others.
struct ReplayWorld {
  std::function<int()> count_gpus;
  std::function<std::unique_ptr<GpuDevice>(int ordinal)> open_gpu;
  std::function<int(const RankLaunch&)> run_ranks;
};

// The exit code.
int run_replay(Console& console, const ReplayArguments& arguments, const ReplayWorld& world);

}  // namespace preserve
