// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/findings.h"

#include <fmt/format.h>

#include <set>

namespace preserve::cuda {
namespace {

// cupti_version.h: 13.1 Update 1, whose release notes name what it resolves.
constexpr uint32_t kCorrelationsRight = 130101;

bool launches_graphs(const Run& run) {
  for (const Launch& launch : run.launches) {
    if (launch.kind == LaunchKind::graph) return true;
  }
  return false;
}

}  // namespace

Findings find_out(const Run& run) {
  Findings found;
  std::set<std::string> known;
  const auto note = [&](const std::string& text) {
    if (text.empty() || !known.insert(text).second) return;
    found.notes.push_back(text);
  };
  for (const auto& [state, text] : run.states) {
    if (state == State::degraded) note("GPU activity is not recorded: " + text);
    if (state == State::noted) note(text);
  }
  if (run.recorded.size() > 1 && run.cupti_version != 0 && run.cupti_version < kCorrelationsRight &&
      launches_graphs(run)) {
    note(
        fmt::format("CUPTI {} may give graph launches the wrong correlation ids from the second "
                    "capture range on (resolved in CUDA 13.1 Update 1): ranges and steps of "
                    "replayed kernels may be wrong; one longer range avoids it",
                    run.cupti_version));
  }
  const Losses& lost = run.losses;
  const int64_t all = lost.received + lost.dropped + lost.unreadable + lost.unknown_kind +
                      lost.spool + lost.overwritten;
  const auto lose = [&](int64_t count, const char* what) {
    if (count > 0) found.losses.push_back(fmt::format("{} of {} GPU records {}", count, all, what));
  };
  lose(lost.zero_timestamp, "without times");
  lose(lost.impossible_time, "with impossible times");
  lose(lost.dropped, "dropped by CUPTI");
  lose(lost.unreadable, "unreadable");
  lose(lost.unknown_kind, "of an unknown kind");
  lose(lost.spool, "missing");
  lose(lost.overwritten, "overwritten");
  if (lost.discarded_buffers > 0) {
    found.losses.push_back(fmt::format(
        "{} buffers of GPU records (PRESERVE_CUDA_BUFFERS allows more)", lost.discarded_buffers));
  }
  return found;
}

}  // namespace preserve::cuda
