// SPDX-License-Identifier: Apache-2.0
#include "db/next_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "common/shell_word.h"

namespace preserve {

std::string next_command(const TraceDb& db, const std::string& path) {
  const std::string name = shell_word(path);
  const std::string kind = db.meta("kind");
  if (kind == "grid") return fmt::format("preserve-report {} -o grid.html", name);
  if (kind == "replay" || kind == "apply") {
    const auto or_usual = [&](const char* key, const char* usual) -> std::string {
      const std::string named = db.meta(key);
      return named.empty() ? usual : shell_word(named);
    };
    return fmt::format("preserve-report {} {} {} -o report.html",
                       or_usual("trace_path", "trace.db"),
                       or_usual("schedule_path", "schedule.json"), name);
  }
  if (!db.meta("counters").empty() || !db.query_integer("SELECT 1 FROM step LIMIT 1")) {
    return fmt::format("preserve-report {} -o report.html", name);
  }
  std::string tune = fmt::format("preserve-tune {} --device device.json", name);
  std::error_code error;
  if (std::filesystem::exists("device.json", error)) return tune;
  if (db.query_integer("SELECT 1 FROM device WHERE kind = 'gpu' LIMIT 1")) {
    return "preserve-calibrate --device cuda:0 -o device.json && " + tune;
  }
  const int64_t ranks = db.query_integer("SELECT COUNT(DISTINCT rank) FROM process").value_or(0);
  return fmt::format("preserve-calibrate --ranks {} -o device.json && {}",
                     std::max<int64_t>(1, ranks), tune);
}

}  // namespace preserve
