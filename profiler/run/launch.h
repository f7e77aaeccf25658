// SPDX-License-Identifier: Apache-2.0
// Run mode of preserve-profile: checks everything that can be checked, runs the command with the
// collector in its environment, converts what the collector left to a trace.db, and returns the
// command's own exit code. Also --convert, the same without the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/cli.h"
#include "db/step/steps.h"

namespace preserve {

struct LaunchOptions {
  std::string output = "trace.db";  // %p pid, %h host, %r rank
  bool force = false;
  int64_t flush_period_ns = 100'000'000;
  int64_t ring_bytes = 1 << 20;
  int64_t max_spool_bytes = 0;  // of one process; 0: by the free disk
  bool keep_last = false;       // when that is reached: else what comes first is kept
  int64_t sample = 0;           // ranges of one name, thread and flush period; 0: all are recorded
  bool mpi = true;
  bool touch = false;              // which allocations are touched between MPI calls
  bool torch = false;              // modules, memory and collectives of PyTorch programs
  bool cuda = true;                // when the program uses CUDA
  bool cuda_params = true;         // parameters of kernels
  bool cuda_whole_graphs = false;  // one record per launch of a CUDA graph
  bool cuda_hw_trace = false;
  uint32_t cuda_counters = 0;  // cuda::CounterGroup: hardware counters instead of activity
  bool nccl_plugin = false;    // NCCL's profiler interface in addition to its NVTX ranges
  std::string capture_range = "whole";
  std::vector<std::string> kernel_rules;  // files of more rules
  std::string keep_spool;                 // folder; empty: temporary
  bool store_arguments = false;           // else of the command line the names of options alone
  StepOptions steps{};
  std::vector<std::string> command;
};

int profile_command(const LaunchOptions& options, Console& console);
// Spools that --keep-spool left, or that remain of a preserve-profile that was killed.
int convert_folder(const std::string& folder, const LaunchOptions& options, Console& console);

// %p, %h, %r and %% replaced. usage_error for anything else, or %r without a rank.
std::string expand_output_name(const std::string& pattern);

}  // namespace preserve
