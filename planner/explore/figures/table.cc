// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/figures/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace preserve {

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += i == 0 ? fmt::format("  {:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string ratio_text(const ExploreCell& cell, double ExploreCell::*over,
                       double ExploreCell::*under) {
  return cell.done() ? fmt::format("{:.3f}", cell.*over / (cell.*under)) : "N/A";
}

std::string tokens_text(int64_t context) {
  constexpr int64_t kThousand = 1024;
  return context % kThousand == 0 ? fmt::format("{}K", context / kThousand)
                                  : fmt::format("{}", context);
}

std::string batch_context_maps(const std::vector<ExploreCell>& cells,
                               const std::function<std::string(const ExploreCell&)>& group,
                               const std::function<std::string(const ExploreCell&)>& value) {
  std::vector<std::string> names;
  std::map<std::string, std::vector<const ExploreCell*>> groups;
  for (const ExploreCell& cell : cells) {
    std::vector<const ExploreCell*>& members = groups[group(cell)];
    if (members.empty()) names.push_back(group(cell));
    members.push_back(&cell);
  }
  std::string text;
  for (const std::string& name : names) {
    std::map<int64_t, std::string> contexts;
    std::map<int64_t, std::map<int64_t, std::string>> rows;
    for (const ExploreCell* cell : groups[name]) {
      contexts[cell->context] = tokens_text(cell->context);
      rows[cell->batch][cell->context] = value(*cell);
    }
    std::vector<std::vector<std::string>> table{{"batch"}};
    for (const auto& [context, head] : contexts) table[0].push_back(head);
    for (const auto& [batch, values] : rows) {
      std::vector<std::string>& row = table.emplace_back();
      row.push_back(std::to_string(batch));
      for (const auto& [context, head] : contexts) {
        const auto found = values.find(context);
        row.push_back(found == values.end() ? "" : found->second);
      }
    }
    text += name + "\n" + text_table(table);
  }
  return text;
}

}  // namespace preserve
