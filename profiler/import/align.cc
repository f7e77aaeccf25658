// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/align.h"

#include <algorithm>
#include <map>

namespace preserve::import {
namespace {

struct Ended {
  std::string function;
  int64_t communicator = -1, sequence = -1, end_ns = 0;
};

std::vector<Ended> collectives_of(const TraceDb& db, ProcessId process) {
  std::vector<Ended> found;
  Query rows = db.query(
      "SELECT collective.function, collective.communicator, collective.sequence, op.end_ns "
      "FROM collective JOIN op ON op.id = collective.op_id JOIN stream ON stream.id = op.stream_id "
      "WHERE stream.process_id = ? AND op.kind = 'collective' ORDER BY op.start_ns, op.id",
      {process.value});
  while (rows.next()) {
    found.push_back({std::string(rows.text(0)), rows.optional_integer(1).value_or(-1),
                     rows.optional_integer(2).value_or(-1), rows.integer(3)});
  }
  return found;
}

// Differences of end times, reference minus other, of collectives that are the same one.
std::vector<int64_t> end_differences(const std::vector<Ended>& reference,
                                     const std::vector<Ended>& other) {
  std::vector<int64_t> differences;
  std::map<std::pair<int64_t, int64_t>, int64_t> ends;
  for (const Ended& each : reference) {
    if (each.communicator >= 0 && each.sequence >= 0) {
      ends.emplace(std::pair(each.communicator, each.sequence), each.end_ns);
    }
  }
  for (const Ended& each : other) {
    const auto same = ends.find({each.communicator, each.sequence});
    if (same != ends.end()) differences.push_back(same->second - each.end_ns);
  }
  if (static_cast<int64_t>(differences.size()) >= kLeastMatched) return differences;
  // Without communicators: only when both ran the same functions in the same order.
  differences.clear();
  const bool same_order =
      reference.size() == other.size() &&
      std::equal(reference.begin(), reference.end(), other.begin(),
                 [](const Ended& a, const Ended& b) { return a.function == b.function; });
  for (size_t i = 0; same_order && i < reference.size(); ++i) {
    differences.push_back(reference[i].end_ns - other[i].end_ns);
  }
  return differences;
}

int64_t middle(std::vector<int64_t> values) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void shift(TraceDb& db, ProcessId process, int64_t by_ns) {
  const char* const kStatements[] = {
      "UPDATE op SET start_ns = start_ns + ?1, end_ns = end_ns + ?1 "
      "WHERE stream_id IN (SELECT id FROM stream WHERE process_id = ?2)",
      "UPDATE range SET start_ns = start_ns + ?1, end_ns = end_ns + ?1 "
      "WHERE stream_id IN (SELECT id FROM stream WHERE process_id = ?2)",
      "UPDATE step SET start_ns = start_ns + ?1, end_ns = end_ns + ?1 WHERE process_id = ?2",
      "UPDATE process SET start_ns = start_ns + ?1, end_ns = end_ns + ?1 WHERE id = ?2"};
  for (const char* statement : kStatements) db.execute(statement, {by_ns, process.value});
}

}  // namespace

std::vector<Alignment> align_clocks(TraceDb& db, const std::vector<ProcessId>& processes) {
  std::vector<Alignment> result;
  if (processes.empty()) return result;
  const std::vector<Ended> reference = collectives_of(db, processes.front());
  for (size_t i = 1; i < processes.size(); ++i) {
    Alignment alignment{.process = processes[i]};
    std::vector<int64_t> differences = end_differences(reference, collectives_of(db, processes[i]));
    alignment.matched = static_cast<int64_t>(differences.size());
    if (alignment.matched >= kLeastMatched) {
      const int64_t offset_ns = middle(differences);
      for (int64_t& difference : differences) difference = std::abs(difference - offset_ns);
      alignment.residual_median_ns = middle(differences);
      // An offset within the spread is no offset: clocks of one host agree already.
      if (std::abs(offset_ns) > 2 * alignment.residual_median_ns) {
        alignment.shift_ns = offset_ns;
        shift(db, processes[i], offset_ns);
      } else {
        for (int64_t& difference : differences) difference += std::abs(offset_ns);
      }
      alignment.residual_max_ns = *std::ranges::max_element(differences);
    }
    result.push_back(alignment);
  }
  return result;
}

}  // namespace preserve::import
