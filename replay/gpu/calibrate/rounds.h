// SPDX-License-Identifier: Apache-2.0
// Experiments that take turns: every graph runs once per round, so that whatever disturbs the GPU
// disturbs all of them alike.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "replay/gpu/calibrate/calibrate.h"

namespace preserve {

class CalibrationRounds {
 public:
  // What a run adds to a series. The series must stay where it is until run() returns.
  struct Take {
    Series* series = nullptr;
    std::function<double(const GpuRun&)> value;
  };

  CalibrationRounds(GpuDevice& device, const GpuCalibrateOptions& options)
      : device_(device), options_(options) {}

  // Lines that a graph marks to be evicted last would outlive it; such a graph is executed once at
  // a time, and they are made normal afterwards.
  void add(const GpuGraph& graph, std::vector<Take> takes);
  // With another set-aside of L2 while the graph runs; nothing: what was found at the start.
  void add_with_set_aside(const GpuGraph& graph, std::vector<Take> takes,
                          std::optional<int64_t> set_aside_bytes);

  // As many rounds as the time allows; once. internal_error when a graph read other bytes than
  // before.
  RoundsSeen run(std::string_view phase, int64_t time_limit_ns);

 private:
  struct Experiment {
    int graph = 0;
    std::vector<Take> takes;
    bool persisting = false;  // leaves lines that are evicted last
    std::optional<int64_t> set_aside_bytes;
    std::optional<uint64_t> checksum;
  };

  std::vector<GpuRun> runs_of(const Experiment& experiment);
  void run_one(Experiment& experiment);
  void discard(const std::vector<bool>& held_down, RoundsSeen& seen);

  GpuDevice& device_;
  const GpuCalibrateOptions& options_;
  std::vector<Experiment> experiments_;
};

// Takes of GpuRun.
std::function<double(const GpuRun&)> op_time(int op);
// From the start, or from the end, of one slot to the start of a later one.
std::function<double(const GpuRun&)> start_between(int op, int later);
std::function<double(const GpuRun&)> gap_between(int op, int later);

}  // namespace preserve
