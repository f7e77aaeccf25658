// SPDX-License-Identifier: Apache-2.0
#include "db/grid/heat_map.h"

#include <fmt/format.h>

#include <map>
#include <set>

namespace preserve {

std::vector<HeatMap> heat_maps(std::span<const GridCell> cells) {
  using Name = std::pair<std::string, std::string>;
  std::vector<Name> order;
  std::map<Name, std::map<std::pair<int64_t, std::pair<int64_t, int64_t>>, const GridCell*>> maps;
  for (const GridCell& cell : cells) {
    const Name name{cell.key.model, cell.key.dtype};
    if (maps.find(name) == maps.end()) order.push_back(name);
    maps[name][{cell.key.batch, {cell.key.ranks, cell.key.context}}] = &cell;
  }
  std::vector<HeatMap> out;
  for (const Name& name : order) {
    std::set<int64_t> batches;
    std::map<int64_t, std::set<int64_t>> columns;
    for (const auto& [place, cell] : maps[name]) {
      batches.insert(place.first);
      columns[place.second.first].insert(place.second.second);
    }
    HeatMap map{name.first, name.second, {batches.begin(), batches.end()}, {}, {}};
    for (const auto& [ranks, contexts] : columns) {
      map.columns.emplace_back(ranks, std::vector<int64_t>(contexts.begin(), contexts.end()));
    }
    for (const int64_t batch : map.batches) {
      std::vector<const GridCell*>& row = map.rows.emplace_back();
      for (const auto& [ranks, contexts] : map.columns) {
        for (const int64_t context : contexts) {
          const auto found = maps[name].find({batch, {ranks, context}});
          row.push_back(found == maps[name].end() ? nullptr : found->second);
        }
      }
    }
    out.push_back(std::move(map));
  }
  return out;
}

std::string heat_mark(const GridCell& cell) {
  switch (cell.status) {
    case CellStatus::pending:
      return "-";
    case CellStatus::not_available:
      return "N/A";
    case CellStatus::failed:
      return "failed";
    case CellStatus::done:
      return cell.choice == kDoNothing ? "=" : fmt::format("{:.3f}", cell.chosen_speedup);
  }
  return "-";
}

}  // namespace preserve
