// SPDX-License-Identifier: Apache-2.0
#include "profiler/clocks/collectives.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace preserve::clocks {
namespace {

// Within this, times of one clock may contradict each other too: threads read it on several cores.
constexpr double kToleranceNs = 1000;

struct Part {
  int64_t process, entered_ns, left_ns;
};

// Each collective that several processes took part in, and all of them needed each other. A rank
// that gives nothing may be waited for by nobody.
void each_collective(const TraceDb& db,
                     const std::function<void(const std::vector<Part>&)>& visit) {
  Query rows = db.query(
      "SELECT communicator, sequence, stream.process_id, start_ns, end_ns FROM collective "
      "JOIN op ON op.id = collective.op_id JOIN stream ON stream.id = op.stream_id "
      "WHERE communicator IS NOT NULL AND sequence IS NOT NULL AND end_ns IS NOT NULL AND "
      "(function = 'barrier' OR (bytes > 0 AND (function = 'allreduce' OR function = 'allgather' "
      "OR function = 'alltoall' OR function = 'reduce_scatter'))) ORDER BY 1, 2, 3");
  std::vector<Part> parts;
  std::pair<int64_t, int64_t> current{-1, -1};
  const auto finish = [&] {
    if (parts.size() > 1) visit(parts);
    parts.clear();
  };
  while (rows.next()) {
    const std::pair key{rows.integer(0), rows.integer(1)};
    if (key != current) finish();
    current = key;
    parts.push_back({rows.integer(2), rows.integer(3), rows.integer(4)});
  }
  finish();
}

// Of one group in one collective.
struct Span {
  size_t collective;
  int64_t last_entered_ns, first_left_ns;
};

Span moved(const Span& span, const Line& line) {
  return {span.collective,
          span.last_entered_ns + std::llround(line.offset_at(span.last_entered_ns)),
          span.first_left_ns + std::llround(line.offset_at(span.first_left_ns))};
}

std::vector<Bounds> bounds_between(const std::map<size_t, Span>& common,
                                   const std::vector<Span>& group) {
  std::vector<Bounds> bounds;
  for (const Span& span : group) {
    const auto same = common.find(span.collective);
    if (same == common.end()) continue;
    bounds.push_back({span.last_entered_ns,
                      static_cast<double>(same->second.last_entered_ns - span.first_left_ns),
                      static_cast<double>(same->second.first_left_ns - span.last_entered_ns)});
  }
  return bounds;
}

bool agree_already(const std::vector<Bounds>& bounds) {
  return std::ranges::all_of(bounds, [](const Bounds& each) {
    return each.least_ns <= kToleranceNs && each.most_ns >= -kToleranceNs;
  });
}

}  // namespace

Aligned align(const TraceDb& db, const std::vector<Group>& groups) {
  std::map<int64_t, size_t> group_of;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (const int64_t process : groups[i]) group_of.emplace(process, i);
  }
  std::vector<std::vector<Span>> spans(groups.size());
  size_t collectives = 0;
  each_collective(db, [&](const std::vector<Part>& parts) {
    std::map<size_t, Span> by_group;
    for (const Part& part : parts) {
      const auto group = group_of.find(part.process);
      if (group == group_of.end()) continue;
      Span& span =
          by_group.try_emplace(group->second, Span{collectives, part.entered_ns, part.left_ns})
              .first->second;
      span.last_entered_ns = std::max(span.last_entered_ns, part.entered_ns);
      span.first_left_ns = std::min(span.first_left_ns, part.left_ns);
    }
    if (by_group.size() > 1) {
      for (const auto& [group, span] : by_group) spans[group].push_back(span);
    }
    ++collectives;
  });
  Aligned result;
  std::map<size_t, Span> common;  // of all groups that are on the common clock
  const auto join = [&](const std::vector<Span>& group, const Line& line) {
    for (const Span& span : group) {
      const Span now = moved(span, line);
      Span& all = common.try_emplace(span.collective, now).first->second;
      all.last_entered_ns = std::max(all.last_entered_ns, now.last_entered_ns);
      all.first_left_ns = std::min(all.first_left_ns, now.first_left_ns);
    }
  };
  for (size_t i = 0; i < groups.size(); ++i) {
    Line line;
    if (i > 0) {
      const std::vector<Bounds> bounds = bounds_between(common, spans[i]);
      if (bounds.empty()) {
        result.apart.push_back(i);
        continue;
      }
      line = line_between(bounds);
      const bool moves = !agree_already(bounds);
      if (!moves) line.offset_ns = line.drift = 0;
      for (const int64_t process : groups[i]) {
        result.found.push_back({ProcessId{process}, "collectives", line, moves});
      }
    }
    join(spans[i], line);
  }
  return result;
}

int64_t check(TraceDb& db) {
  std::map<int64_t, int64_t> early_ns;  // by process
  each_collective(db, [&](const std::vector<Part>& parts) {
    const int64_t last_entered_ns = std::ranges::max(parts, {}, &Part::entered_ns).entered_ns;
    for (const Part& part : parts) {
      int64_t& most = early_ns[part.process];
      most = std::max(most, last_entered_ns - part.left_ns);
    }
  });
  int64_t most_ns = 0;
  for (const auto& [process, ns] : early_ns) {
    db.execute("UPDATE clock SET left_early_ns = ? WHERE process_id = ?", {ns, process});
    most_ns = std::max(most_ns, ns);
  }
  return most_ns;
}

}  // namespace preserve::clocks
