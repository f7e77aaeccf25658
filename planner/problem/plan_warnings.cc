// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/plan_warnings.h"

#include <fmt/format.h>

#include "common/units.h"

namespace preserve {
namespace {

// More than careful hand-written prefetching has reached on a GPU.
constexpr double kSuspiciousGain = 0.15;

// The referee may find a little more than the model's bounds; that is reported.
void add_broken_bounds(const Schedule& schedule, std::vector<std::string>& out) {
  const int64_t step_ns = schedule.plan.prefetch_step_ns;
  std::string broken;
  const auto check = [&](int64_t bound_ns, const char* what) {
    if (step_ns >= bound_ns) return;
    broken += fmt::format("{}{} ({})", broken.empty() ? "" : ", ", what, format_duration(bound_ns));
  };
  check(schedule.all_hot_step_ns, "every read hot");
  check(schedule.window_limited_step_ns, "only windows limit");
  check(schedule.cache_limited_step_ns, "only the cache limits");
  if (broken.empty()) return;
  out.push_back(
      fmt::format("the simulator predicts {} per step, below a bound of the flow's model: {}; the "
                  "model charges prefetches for bandwidth that operators leave free once their own "
                  "reads hit",
                  format_duration(step_ns), broken));
}

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
  add_broken_bounds(schedule, out);
  if (options.windows == WindowsMode::idle && !outlasts_window(device)) {
    out.push_back("--windows idle changes nothing: on a CPU prefetching ends with the collective");
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
