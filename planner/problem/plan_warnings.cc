// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/plan_warnings.h"

#include <fmt/format.h>

#include "common/units.h"

namespace preserve {
namespace {

// More than careful hand-written prefetching has reached on a GPU.
constexpr double kSuspiciousGain = 0.15;

}  // namespace

std::vector<std::string> plan_warnings(const FoldedStep& step, const DeviceModel& device,
                                       const ProblemOptions& options, const ProblemNotes& notes,
                                       const Schedule& schedule) {
  std::vector<std::string> out = step.warnings;
  const auto count = [&out](int64_t number, const char* text) {
    if (number > 0) out.push_back(fmt::format("{} {}", number, text));
  };
  const auto size = [&out](int64_t bytes, const char* text) {
    if (bytes > 0) {
      out.push_back(fmt::format("{} {}", format_size(bytes), text));
    }
  };
  if (device.kind == "gpu" && schedule.plan.speedup > 1 + kSuspiciousGain) {
    out.push_back(
        fmt::format("a predicted gain of {:.1f} % is suspicious on a GPU, where careful work has "
                    "reached 2 to 7 %: check the device file and the recorded bytes",
                    100 * (schedule.plan.speedup - 1)));
  }
  if (options.windows == WindowsMode::idle && !outlasts_window(device)) {
    out.push_back("--windows idle changes nothing: on a CPU prefetching ends with the collective");
  }
  if (options.budget_bytes && schedule.budget_bytes < *options.budget_bytes) {
    out.push_back(fmt::format(
        "--budget {}: nothing beyond {} survives in the cache of {}, so the plan uses no more",
        format_size(*options.budget_bytes), format_size(schedule.budget_bytes), device.name));
  }
  count(notes.operators_without_bytes,
        "operators have no recorded bytes: their traffic through the cache is counted as 0");
  count(notes.clamped_operators,
        "operators have more recorded bytes than they can have read in their time: low "
        "confidence, only the bytes that fit are planned");
  size(notes.low_confidence_bytes, "of the candidates were inferred, not recorded: low confidence");
  size(notes.unnamed_bytes,
       "per step are read from tensors of unknown role, which are never prefetched");
  size(notes.written_bytes, "of weights are written within the step and were excluded");
  count(notes.clipped_accesses, "accesses reach beyond the end of their tensor and were cut there");
  count(notes.zero_duration_operators,
        "operators last 0 ns: they keep their place but cannot become faster");
  count(notes.overlapping_operators,
        "operators start before their predecessor on the stream has ended: windows count only the "
        "time in which nothing else runs");
  return out;
}

}  // namespace preserve
