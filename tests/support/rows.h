// SPDX-License-Identifier: Apache-2.0
// What a trace.db answers, as text.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve::test {

// The rows of a SELECT, the values of each with a space between; "-" where there is none.
std::vector<std::string> rows(const TraceDb& db, const std::string& sql);

// How many rows what stands behind FROM has.
inline int64_t count(const TraceDb& db, const std::string& from) {
  return db.query_integer("SELECT COUNT(*) FROM " + from).value_or(-1);
}

// How many records of `source` were lost, or received, or written: `kind`.
inline int64_t loss(const TraceDb& db, const std::string& source, const std::string& kind) {
  return db
      .query_integer("SELECT SUM(count) FROM loss WHERE source = ? AND kind = ?", {source, kind})
      .value_or(0);
}

// A file that is opened for each question.
struct TraceFile {
  std::string trace;
  TraceDb db() const { return TraceDb::open(trace); }
  std::vector<std::string> rows(const std::string& sql) const { return test::rows(db(), sql); }
  // -1 where there is none.
  int64_t number(const std::string& sql) const { return db().query_integer(sql).value_or(-1); }
  int64_t count(const std::string& from) const { return test::count(db(), from); }
  // Operators in a range of that name.
  int64_t operators_in(const std::string& range) const {
    return count(
        "op JOIN range ON range.id = op.range_id JOIN string ON string.id = range.name_id WHERE "
        "string.value = '" +
        range + "'");
  }
  int64_t loss(const std::string& source, const std::string& kind) const {
    return test::loss(db(), source, kind);
  }
};

}  // namespace preserve::test
