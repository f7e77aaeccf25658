// SPDX-License-Identifier: Apache-2.0
#include "profiler/files/add_counters.h"

#include "common/error.h"
#include "common/output_file.h"
#include "db/copy_rows.h"
#include "db/next_stage.h"
#include "db/trace_db.h"

namespace preserve {

namespace {

// Operators on GPU streams by their place in the step. {0}: database, {1}: condition.
constexpr const char* kPlaced =
    "SELECT op.id AS op, process.rank AS rank, name.value AS name, "
    "IFNULL(place.value, '') AS place, "
    "ROW_NUMBER() OVER (PARTITION BY op.step_id, op.name_id, range.name_id "
    "ORDER BY op.start_ns, op.id) AS nth, "
    "COUNT(*) OVER (PARTITION BY op.step_id, op.name_id, range.name_id) AS times "
    "FROM {0}.op JOIN {0}.stream ON stream.id = op.stream_id AND stream.kind = 'gpu' "
    "JOIN {0}.process ON process.id = stream.process_id "
    "JOIN {0}.string AS name ON name.id = op.name_id "
    "LEFT JOIN {0}.range ON range.id = op.range_id "
    "LEFT JOIN {0}.string AS place ON place.id = range.name_id "
    "WHERE op.step_id IS NOT NULL{1}";

// Other counters (blocks of a collective, bytes of a copy) are facts of every recording.
constexpr const char* kCounted =
    "SELECT * FROM counted.counter WHERE metric IN ('dram_read_bytes', 'dram_write_bytes', "
    "'l2_read_bytes', 'l2_write_bytes')";

void check(const TraceDb& times, const TraceDb& counted) {
  if (counted.meta("counters").empty()) {
    throw input_error("{}: was not recorded with --counters", counted.file());
  }
  if (!times.meta("counters").empty() || !times.meta("kind").empty()) {
    throw input_error("{}: is not a recording of times: give the trace first, then the counters",
                      times.file());
  }
}

// Returns how many operators got counters.
int64_t join(TraceDb& db) {
  db.execute(fmt::format("CREATE TEMP TABLE counted_value AS {}", kCounted));
  db.execute("CREATE INDEX temp.counted_op ON counted_value (op_id)");
  const bool one_process =
      db.query_integer(
            "SELECT COUNT(DISTINCT process_id) FROM counted.stream WHERE id IN "
            "(SELECT stream_id FROM counted.op WHERE id IN (SELECT op_id FROM "
            "counted_value))")
          .value_or(0) == 1;
  db.execute("CREATE TEMP TABLE here AS " + fmt::format(fmt::runtime(kPlaced), "main", ""));
  db.execute("CREATE TEMP TABLE there AS " +
             fmt::format(fmt::runtime(kPlaced), "counted",
                         " AND op.id IN (SELECT op_id FROM counted_value)"));
  db.execute(fmt::format(
      "CREATE TEMP TABLE mean AS SELECT {} AS rank, name, place, nth, times, metric, AVG(value) AS "
      "value FROM there JOIN counted_value ON op_id = op GROUP BY 1, 2, 3, 4, 5, 6",
      one_process ? "NULL" : "rank"));
  db.execute("CREATE INDEX temp.mean_key ON mean (name, place, nth, times)");
  db.execute(
      fmt::format("CREATE TEMP TABLE joined AS SELECT op, metric, value FROM here JOIN mean "
                  "USING (name, place, nth, times){}",
                  one_process ? "" : " WHERE here.rank IS mean.rank"));
  db.execute("INSERT OR REPLACE INTO main.counter SELECT op, metric, value FROM joined");
  return db.query_integer("SELECT COUNT(DISTINCT op) FROM joined").value_or(0);
}

}  // namespace

int add_counters(const std::string& trace, const std::string& counters, const std::string& output,
                 bool force, Console& console) {
  refuse_input_as_output(output, {trace, counters});
  check(TraceDb::open(trace), TraceDb::open(counters));
  require_file(output, "a trace");
  OutputFile out(output, force);
  TraceDb db = TraceDb::create(out.temporary_path());
  copy_rows(db, trace);
  db.attach(counters, "counted");
  const int64_t joined = join(db);
  const int64_t all = db.query_integer("SELECT COUNT(*) FROM here").value_or(0);
  if (joined == 0) {
    throw input_error(
        "{}: none of the {} GPU operators in steps of {} is counted there: record "
        "the same program with the same ranges",
        counters, all, trace);
  }
  db.set_meta("counters_from", sha256_of_file(counters));
  for (const char* table : {"here", "there", "mean", "joined", "counted_value"}) {
    db.execute(fmt::format("DROP TABLE temp.{}", table));
  }
  db.detach("counted");
  const std::string next = next_command(db, out.path().string());
  db.finish();
  out.commit();
  console.info(fmt::format("{}: {} of {} GPU operators in steps have counters", out.path().string(),
                           joined, all));
  console.next(next);
  return kExitDone;
}

}  // namespace preserve
