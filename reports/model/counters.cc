// SPDX-License-Identifier: Apache-2.0
#include "reports/model/parts.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kRows = 64;

// Of the operators of one name in ranges of one name.
constexpr const char* kCounted =
    "SELECT name.value, IFNULL(place.value, ''), metric, COUNT(*), SUM(counter.value), "
    "MIN(counter.value), MAX(counter.value) FROM counter JOIN op ON op.id = op_id "
    "JOIN string AS name ON name.id = op.name_id LEFT JOIN range ON range.id = op.range_id "
    "LEFT JOIN string AS place ON place.id = range.name_id "
    "WHERE metric IN ('dram_read_bytes', 'dram_write_bytes', 'l2_read_bytes', 'l2_write_bytes') "
    "GROUP BY op.name_id, range.name_id, metric";
constexpr const char* kNamed =
    "SELECT name.value, IFNULL(place.value, ''), COUNT(*), SUM(bytes) FROM "
    "(SELECT op_id, SUM(bytes) AS bytes FROM access WHERE mode = 'read' AND op_id IN "
    "(SELECT op_id FROM counter WHERE metric IN ('dram_read_bytes', 'l2_read_bytes', "
    "'dram_write_bytes', 'l2_write_bytes')) GROUP BY op_id) JOIN op ON op.id = op_id "
    "JOIN string AS name ON name.id = op.name_id LEFT JOIN range ON range.id = op.range_id "
    "LEFT JOIN string AS place ON place.id = range.name_id GROUP BY op.name_id, range.name_id";

struct Sum {
  int64_t count = 0;
  double total = 0, least = 0, most = 0;
  void add(int64_t n, double sum, double low, double high) {
    least = count == 0 ? low : std::min(least, low);
    most = std::max(most, high);
    total += sum;
    count += n;
  }
};
struct Group {
  Sum metrics[kCounterMetrics.size()];
  Sum named;
};

int64_t bytes_of(double value) {
  return std::isfinite(value) && value >= 0 && value < 9e18 ? std::llround(value) : 0;
}

}  // namespace

std::vector<CounterTotal> summarise_counters(const TraceDb& db) {
  std::map<std::pair<std::string, std::string>, Group> groups;
  const auto group_of = [&](const Query& row) -> Group& {
    return groups[{without_layer_numbers(clean(row.text(0))),
                   without_layer_numbers(clean(row.text(1)))}];
  };
  Query counted = db.query(kCounted);
  while (counted.next()) {
    const auto metric = std::ranges::find(kCounterMetrics, counted.text(2));
    if (metric == kCounterMetrics.end()) continue;
    group_of(counted).metrics[metric - kCounterMetrics.begin()].add(
        counted.integer(3), counted.real(4), counted.real(5), counted.real(6));
  }
  if (groups.empty()) return {};
  Query named = db.query(kNamed);
  while (named.next()) group_of(named).named.add(named.integer(2), named.real(3), 0, 0);
  std::vector<CounterTotal> totals;
  for (const auto& [key, group] : groups) {
    CounterTotal total{key.first, key.second};
    for (size_t i = 0; i < kCounterMetrics.size(); ++i) {
      const Sum& sum = group.metrics[i];
      if (sum.count == 0) continue;
      total.count = std::max(total.count, sum.count);
      total.metrics[i] = CounterTotal::Bytes{bytes_of(sum.total / static_cast<double>(sum.count)),
                                             bytes_of(sum.least), bytes_of(sum.most)};
    }
    if (group.named.count > 0) {
      total.named_read_bytes = bytes_of(group.named.total / static_cast<double>(group.named.count));
    }
    totals.push_back(std::move(total));
  }
  const auto moved = [](const CounterTotal& total) {
    double bytes = 0;
    for (const auto& metric : total.metrics) {
      if (metric) bytes += static_cast<double>(metric->mean) * static_cast<double>(total.count);
    }
    return bytes;
  };
  std::ranges::stable_sort(totals, std::ranges::greater(), moved);
  if (totals.size() > kRows) totals.resize(kRows);
  return totals;
}

}  // namespace preserve::report
