// SPDX-License-Identifier: Apache-2.0
// Two explorations, cell by cell. All of it is predicted, so differences are exact.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "common/text.h"
#include "common/units.h"
#include "reports/explore/report.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kRows = 200;  // more are in the JSON report

struct Field {
  const char* key;
  bool named;  // by cell_name() and the device; the others follow from these unless they are varied
  std::string (*text)(const ExploreCell&);
};
std::string text_of(const std::optional<double>& value) {
  return value ? fmt::format("{}", *value) : std::string();
}
constexpr std::array kFields{
    Field{"model", true, [](const ExploreCell& c) { return c.model; }},
    Field{"device", true, [](const ExploreCell& c) { return c.device; }},
    Field{"dtype", true, [](const ExploreCell& c) { return c.dtype; }},
    Field{"tp", true, [](const ExploreCell& c) { return fmt::format("{}", c.ranks); }},
    Field{"batch", true, [](const ExploreCell& c) { return fmt::format("{}", c.batch); }},
    Field{"context", true, [](const ExploreCell& c) { return fmt::format("{}", c.context); }},
    Field{"kv_heads", false, [](const ExploreCell& c) { return fmt::format("{}", c.kv_heads); }},
    Field{"l2", false, [](const ExploreCell& c) { return fmt::format("{}", c.cache_bytes); }},
    Field{"memory", false, [](const ExploreCell& c) { return fmt::format("{}", c.memory_bytes); }},
    Field{"bandwidth", false,
          [](const ExploreCell& c) { return fmt::format("{}", c.memory_bandwidth_bytes_per_s); }},
    Field{"arithmetic", false,
          [](const ExploreCell& c) { return fmt::format("{}", c.arithmetic_per_s); }},
    Field{"network_latency", false,
          [](const ExploreCell& c) { return text_of(c.network_latency_ns); }},
    Field{"network_bandwidth", false,
          [](const ExploreCell& c) { return text_of(c.network_bandwidth_bytes_per_s); }},
    Field{"allreduce", false,
          [](const ExploreCell& c) { return fmt::format("{}", c.allreduce_ns); }},
};
using Varied = std::array<bool, kFields.size()>;

std::string key_of(const ExploreCell& cell, const Varied& varied) {
  std::string key;
  for (size_t f = 0; f < kFields.size(); ++f) {
    if (varied[f]) key += kFields[f].text(cell) + '\n';
  }
  return key;
}

// What is named counts as varied when it has two values at all; what follows from it, when it has
// two among cells of one name.
void mark_varied(const ExploreReport& report, bool named, Varied& varied) {
  std::map<std::string, std::array<std::string, kFields.size()>> first;
  const Varied among = named ? Varied{} : varied;
  for (const ExploreCell& cell : report.cells) {
    std::array<std::string, kFields.size()> values;
    for (size_t f = 0; f < kFields.size(); ++f) {
      if (kFields[f].named == named) values[f] = kFields[f].text(cell);
    }
    const auto& seen = first.try_emplace(key_of(cell, among), values).first->second;
    for (size_t f = 0; f < kFields.size(); ++f) varied[f] |= values[f] != seen[f];
  }
}

std::string name_of(const ExploreCell& cell, const Varied& varied) {
  std::string name = cell_name(cell);
  if (varied[1]) name += " on " + cell.device;
  for (size_t f = 0; f < kFields.size(); ++f) {
    if (kFields[f].named || !varied[f]) continue;
    name +=
        fmt::format(", {} {}", kFields[f].key, value_text(kFields[f].key, kFields[f].text(cell)));
  }
  return name;
}

std::string sentence_of(const ExploreComparison& comparison) {
  if (comparison.cells.empty()) {
    return fmt::format("Against {}: no cell is done in both.", comparison.path);
  }
  int64_t faster = 0, slower = 0;
  double log_step = 0, log_before = 0, log_after = 0;
  for (const ExploreChange& cell : comparison.cells) {
    faster += cell.flow_ratio() > 1 ? 1 : 0;
    slower += cell.flow_ratio() < 1 ? 1 : 0;
    log_step += std::log(cell.flow_ratio());
    log_before += std::log(cell.speedup_before());
    log_after += std::log(cell.speedup_after());
  }
  const auto count = static_cast<double>(comparison.cells.size());
  return fmt::format(
      "Against {}: of {} done in both, the step with flow is faster in {} and slower in {}, {} in "
      "the geometric mean; the speed-up by flow is {} instead of {}.",
      comparison.path, count_of(static_cast<int64_t>(comparison.cells.size()), "cell"), faster,
      slower, describe_speedup(std::exp(log_step / count)),
      format_ratio(std::exp(log_after / count)), format_ratio(std::exp(log_before / count)));
}

}  // namespace

ExploreComparison compare_explorations(const ExploreReport& before, const ExploreReport& now) {
  Varied varied{};
  for (const bool named : {true, false}) {
    mark_varied(before, named, varied);
    mark_varied(now, named, varied);
  }
  ExploreComparison comparison{.path = clean(before.input.path.string())};
  std::map<std::string, const ExploreCell*> earlier;
  for (const ExploreCell& cell : before.cells) {
    if (cell.done()) earlier.try_emplace(key_of(cell, varied), &cell);
  }
  std::set<std::string> met;
  for (const ExploreCell& cell : now.cells) {
    if (!cell.done()) continue;
    const std::string key = key_of(cell, varied);
    const auto found = earlier.find(key);
    if (!met.insert(key).second) continue;  // two sheets hold it
    if (found == earlier.end()) {
      ++comparison.only_after;
      continue;
    }
    comparison.cells.push_back({name_of(cell, varied), found->second->baseline_step_ns,
                                cell.baseline_step_ns, found->second->flow_step_ns,
                                cell.flow_step_ns});
    earlier.erase(found);
  }
  comparison.only_before = static_cast<int64_t>(earlier.size());
  const auto apart = [](const ExploreChange& cell) {
    return std::fabs(std::log(cell.flow_ratio()));
  };
  std::ranges::stable_sort(comparison.cells, std::ranges::greater(), apart);
  comparison.sentence = sentence_of(comparison);
  return comparison;
}

Table comparison_table(const ExploreComparison& comparison) {
  Table table{fmt::format("Cells done in {} and in this exploration", comparison.path),
              {"Cell", number("Baseline before"), number("Baseline now"), number("Flow before"),
               number("Flow now"), number("Flow, before / now"), number("Speed-up before"),
               number("Speed-up now")}};
  for (size_t i = 0; i < std::min(kRows, comparison.cells.size()); ++i) {
    const ExploreChange& cell = comparison.cells[i];
    table.rows.push_back({name_cell(cell.name), format_duration(cell.baseline_before_ns),
                          format_duration(cell.baseline_after_ns),
                          format_duration(cell.flow_before_ns), format_duration(cell.flow_after_ns),
                          format_ratio(cell.flow_ratio()), format_ratio(cell.speedup_before()),
                          format_ratio(cell.speedup_after())});
  }
  return table;
}

}  // namespace preserve::report
