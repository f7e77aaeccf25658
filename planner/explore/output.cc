// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/output.h"

#include <fmt/ranges.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/units.h"
#include "db/explore/cells.h"

namespace preserve {
namespace {

using Json = nlohmann::ordered_json;

struct Named {
  std::string name;
  SqlValue value;
};

std::vector<Named> values_of(const ExploreCell& cell) {
  std::vector<Named> named;
  const std::vector<SqlValue> values = explore_values(cell);
  for (size_t i = 0; i < values.size(); ++i) named.push_back({explore_columns()[i], values[i]});
  const auto add = [&](const char* name, double over, double under) {
    named.push_back({name, cell.done() ? SqlValue(over / under) : SqlValue(nullptr)});
  };
  add("speedup_bfs", cell.baseline_step_ns, cell.bfs_step_ns);
  add("speedup_flow", cell.baseline_step_ns, cell.flow_step_ns);
  add("speedup_fused", cell.baseline_step_ns, cell.fused_step_ns);
  const double tokens = static_cast<double>(cell.batch) * kNsPerS;
  add("tokens_per_s", tokens, cell.baseline_step_ns);
  add("tokens_per_s_flow", tokens, cell.flow_step_ns);
  return named;
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + "\"";
}

std::string csv_text(const SqlValue& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  if (const auto* text = std::get_if<std::string>(&value)) return quoted(*text);
  return {};
}

std::string json_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void write_explore_csv(const TraceDb& db, const TextSink& sink) {
  std::vector<std::string> words;
  for (const Named& column : values_of({})) words.push_back(column.name);
  sink(fmt::format("{}\n", fmt::join(words, ",")));
  read_explore_cells(db, [&](const ExploreCell& cell) {
    words.clear();
    for (const Named& column : values_of(cell)) words.push_back(csv_text(column.value));
    sink(fmt::format("{}\n", fmt::join(words, ",")));
  });
}

void write_explore_json(const TraceDb& db, const TextSink& sink) {
  Json sheets = Json::array();
  for (const ExploreSheet& sheet : read_explore_sheets(db)) {
    Json axes = Json::object();
    for (const ExploreAxis& axis : sheet.axes) axes[axis.key] = axis.values;
    sheets.push_back({{"title", sheet.title},
                      {"first_id", sheet.first_id},
                      {"cells", sheet.cells},
                      {"axes", std::move(axes)}});
  }
  sink(
      fmt::format("{{\"schema\":\"preserve/explore\",\"version\":\"1.0\",\"tool_version\":{},\n"
                  "\"figure\":{},\"sheets\":{},\n\"cells\":[",
                  json_line(db.meta("explore_tool_version")), json_line(db.meta("explore_figure")),
                  json_line(sheets)));
  bool first = true;
  read_explore_cells(db, [&](const ExploreCell& cell) {
    Json object = Json::object();
    for (const Named& column : values_of(cell)) {
      std::visit([&](const auto& value) { object[column.name] = value; }, column.value);
    }
    sink((first ? "\n" : ",\n") + json_line(object));
    first = false;
  });
  sink("\n]}\n");
}

void write_output(OutputFile& output, const std::function<void(const TextSink&)>& write) {
  if (output.is_stdout()) {
    write([](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); });
    return;
  }
  std::ofstream file(output.temporary_path(), std::ios::binary);
  const auto check = [&] {
    if (!file) throw input_error("{}: {}", output.path().string(), std::strerror(errno));
  };
  check();
  write([&](std::string_view text) {
    file << text;
    check();
  });
  file.close();
  check();
  output.commit();
}

}  // namespace preserve
