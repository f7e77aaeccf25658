// SPDX-License-Identifier: Apache-2.0
#include "db/losses.h"

#include <fmt/format.h>

#include <set>

#include "common/text.h"

namespace preserve {

std::vector<std::string> loss_sentences(const TraceDb& db) {
  std::vector<std::string> sentences;
  Query losses = db.query(
      "SELECT rank, source, kind, SUM(count) FROM loss_nonzero GROUP BY 1, 2, 3 ORDER BY 1, 2, 3");
  while (losses.next()) {
    const std::string owner =
        losses.is_null(0) ? std::string() : fmt::format(" of rank {}", losses.integer(0));
    sentences.push_back(fmt::format("{}: {} records of {}{} are {}", db.file(), losses.integer(3),
                                    printable(losses.text(1)), owner, printable(losses.text(2))));
  }
  const size_t before_torn = sentences.size();
  Query incomplete =
      db.query("SELECT rank, pid FROM process WHERE complete = 0 ORDER BY rank IS NULL, rank, pid");
  while (incomplete.next()) {
    const std::string owner = incomplete.is_null(0)
                                  ? fmt::format("process {}", incomplete.integer(1))
                                  : fmt::format("rank {}", incomplete.integer(0));
    sentences.push_back(fmt::format(
        "{}: the recording of {} was cut off, its last records are missing", db.file(), owner));
  }
  if (sentences.size() == before_torn && db.meta("incomplete") == "1") {
    sentences.push_back(fmt::format("{}: the recording is incomplete", db.file()));
  }
  return sentences;
}

std::string missing_ranks(const TraceDb& db) {
  constexpr size_t kMostNamed = 8;
  std::set<int64_t> present;
  Query rows = db.query("SELECT rank FROM process WHERE rank IS NOT NULL");
  while (rows.next()) present.insert(rows.integer(0));
  const int64_t world = db.query_integer("SELECT MAX(world_size) FROM process").value_or(0);
  std::vector<int64_t> named;
  int64_t missing = 0;
  for (int64_t rank = 0; rank < world && named.size() < kMostNamed; ++rank) {
    if (present.count(rank) == 0) named.push_back(rank);
  }
  for (const int64_t rank : present) missing -= rank >= 0 && rank < world ? 1 : 0;
  missing += world;
  if (named.empty()) return "";
  const auto more = missing - static_cast<int64_t>(named.size());
  return fmt::format("{}{} of {}", fmt::join(named, ", "),
                     more > 0 ? fmt::format(" and {} more", more) : "", world);
}

}  // namespace preserve
