// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device_fits.h"

#include "common/error.h"
#include "common/text.h"

namespace preserve {

std::vector<std::string> check_device_fits(const TraceDb& db, const DeviceModel& device,
                                           const std::string& device_file, bool force) {
  std::vector<std::string> sentences;
  const auto streams = [&](const char* kind) {
    return db.query_integer("SELECT EXISTS (SELECT 1 FROM stream WHERE kind = ?)", {kind}) == 1;
  };
  // Threads alone are a recording of processors; beside GPU streams they only launch.
  const std::string recorded = streams("gpu") ? "gpu" : streams("thread") ? "cpu" : device.kind;
  if (recorded != device.kind) {
    const std::string text = fmt::format(
        "{} describes a {}, but the recording is of a {}: its times and sizes do not apply",
        printable(device_file), device.kind, recorded);
    if (!force) throw input_error("{}; --force plans all the same", text);
    sentences.push_back(text);
  }
  if (recorded != "cpu" || device.kind != "cpu") return sentences;
  const int64_t ranks =
      db.query_integer(
            "SELECT max(ranks) FROM (SELECT count(DISTINCT rank) AS ranks FROM process"
            " WHERE rank IS NOT NULL GROUP BY host)")
          .value_or(0);
  if (ranks > 0 && ranks != device.ranks) {
    sentences.push_back(
        fmt::format("{} was measured with {} at once, the recording has {} per host: each gets "
                    "another share of "
                    "cache and memory; preserve-calibrate --ranks {} measures theirs",
                    printable(device_file), count_of(device.ranks, "rank"), ranks, ranks));
  }
  return sentences;
}

}  // namespace preserve
