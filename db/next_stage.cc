// SPDX-License-Identifier: Apache-2.0
#include "db/next_stage.h"

#include <fmt/format.h>

namespace preserve {

std::string next_command(const TraceDb& db, const std::string& name) {
  const std::string kind = db.meta("kind");
  if (kind == "grid") return fmt::format("preserve-report {} -o grid.html", name);
  if (kind == "replay" || kind == "apply") {
    return fmt::format("preserve-report trace.db schedule.json {} -o report.html", name);
  }
  if (!db.meta("counters").empty() || !db.query_integer("SELECT 1 FROM step LIMIT 1")) {
    return fmt::format("preserve-report {} -o report.html", name);
  }
  return fmt::format(
      "preserve-tune {} --device device.json (from preserve-calibrate or examples/devices)", name);
}

}  // namespace preserve
