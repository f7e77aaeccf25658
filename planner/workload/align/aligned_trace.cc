// SPDX-License-Identifier: Apache-2.0
// The trace with what a model gave to its operators: a copy, since no stage changes its input.
#include <map>
#include <set>

#include "common/as_index.h"
#include "db/copy_rows.h"
#include "planner/workload/align/recording.h"

namespace preserve::align {
namespace {

constexpr size_t kRowsAtOnce = 200;  // of one INSERT: fewer statements are prepared

// Rows of a temporary table, many at a time.
class Rows {
 public:
  Rows(TraceDb& db, std::string table, size_t columns)
      : db_(db), table_(std::move(table)), columns_(columns) {}
  void add(std::initializer_list<SqlValue> row) {
    values_.insert(values_.end(), row);
    if (values_.size() == kRowsAtOnce * columns_) flush();
  }
  void flush() {
    if (values_.empty()) return;
    std::string one = "(?";
    for (size_t i = 1; i < columns_; ++i) one += ",?";
    one += ")";
    std::string sql = fmt::format("INSERT INTO temp.{} VALUES {}", table_, one);
    for (size_t row = 1; row < values_.size() / columns_; ++row) sql += "," + one;
    db_.execute(sql, values_);
    values_.clear();
  }

 private:
  TraceDb& db_;
  std::string table_;
  size_t columns_;
  std::vector<SqlValue> values_;
};

// Number of each tensor of `step` that only the model knows.
std::map<int32_t, int64_t> add_tensors(TraceDb& db, const FoldedStep& step) {
  std::map<int32_t, int64_t> ids;
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      if (access.source == "model") ids.emplace(access.tensor, 0);
    }
  }
  for (auto& [index, id] : ids) {
    const StepTensor& tensor = step.tensors[as_index(index)];
    db.execute("INSERT INTO string (value) VALUES (?)", {tensor.name});
    const auto name = db.query_integer("SELECT MAX(id) FROM string");
    db.execute(
        "INSERT INTO tensor (process_id, name_id, role, bytes, source) VALUES (?,?,?,?,'model')",
        {step.process.value, name.value_or(0), std::string(to_text(tensor.role)), tensor.bytes});
    id = db.query_integer("SELECT MAX(id) FROM tensor").value_or(0);
  }
  return ids;
}

// What the operators were given, by ordinal, in temporary tables.
void list_given(TraceDb& db, const AlignedStep& aligned) {
  const FoldedStep& step = aligned.step;
  db.execute("CREATE TEMP TABLE folded (op INTEGER PRIMARY KEY, ordinal INTEGER)");
  db.execute(
      "CREATE TEMP TABLE reads (ordinal INTEGER, operand INTEGER, tensor INTEGER, begin INTEGER, "
      "bytes INTEGER, mode TEXT, confidence REAL)");
  db.execute(
      "CREATE TEMP TABLE facts (ordinal INTEGER, kind TEXT, a INTEGER, b INTEGER, c INTEGER, "
      "value REAL, dtype TEXT)");
  const std::map<int32_t, int64_t> tensors = add_tensors(db, step);
  Rows reads(db, "reads", 7), facts(db, "facts", 7), folded(db, "folded", 2);
  std::set<int32_t> with_reads;
  for (const Given& given : aligned.given) {
    const StepOp& op = step.ops[as_index(given.ordinal)];
    const int64_t ordinal = op.ordinal;
    if (given.reads && with_reads.insert(op.ordinal).second) {
      int64_t operand = 0;
      for (const StepAccess& access : op.accesses) {
        if (access.source != "model") continue;
        reads.add({ordinal, operand++, tensors.at(access.tensor), access.offset_bytes, access.bytes,
                   std::string(to_text(access.mode)), access.confidence});
      }
    }
    if (given.product) {
      facts.add({ordinal, "gemm", op.gemm->m, op.gemm->n, op.gemm->k, 0.0, op.gemm->dtype});
    }
    if (given.floor) facts.add({ordinal, "floor", 0, 0, 0, op.floor_ns, ""});
    if (given.message) {
      facts.add({ordinal, "message", op.collective->bytes.value_or(0),
                 op.collective->ranks.value_or(step.world_size), 0, 0.0, ""});
    }
  }
  reads.flush();
  facts.flush();
  for (const auto& [row, ordinal] : aligned.rows) folded.add({row, int64_t{ordinal}});
  folded.flush();
}

void give(TraceDb& db, const AlignedStep& aligned) {
  list_given(db, aligned);
  db.execute(
      "DELETE FROM access WHERE op_id IN (SELECT op FROM folded JOIN reads USING (ordinal)) AND "
      "mode = 'read' AND source IN ('shapes', 'inferred') AND tensor_id NOT IN "
      "(SELECT id FROM tensor WHERE role IN ('activation', 'comm'))");
  db.execute(
      "CREATE TEMP TABLE taken AS SELECT op_id AS op, MAX(operand) + 1 AS operands FROM access "
      "WHERE op_id IN (SELECT op FROM folded) GROUP BY op_id");
  db.execute("CREATE INDEX temp.taken_op ON taken (op)");
  db.execute("CREATE INDEX temp.reads_ordinal ON reads (ordinal)");
  db.execute(
      "INSERT INTO access (op_id, operand, tensor_id, offset_bytes, bytes, mode, source, "
      "confidence) SELECT op, IFNULL(operands, 0) + operand, tensor, begin, bytes, mode, 'model', "
      "confidence FROM folded JOIN reads USING (ordinal) LEFT JOIN taken USING (op)");
  db.execute(
      "INSERT OR IGNORE INTO gemm (op_id, m, n, k, dtype, source) SELECT op, a, b, c, "
      "NULLIF(dtype, ''), 'model' FROM folded JOIN facts USING (ordinal) WHERE kind = 'gemm'");
  db.execute(
      "INSERT OR IGNORE INTO counter (op_id, metric, value) SELECT op, 'floor_ns', value "
      "FROM folded JOIN facts USING (ordinal) WHERE kind = 'floor'");
  db.execute(
      "UPDATE collective SET bytes = a, ranks = IFNULL(ranks, b), source = 'model', confidence = "
      "0.8 FROM (SELECT op, a, b FROM temp.folded JOIN temp.facts USING (ordinal) WHERE kind = "
      "'message') WHERE op_id = op AND bytes IS NULL");
  for (const char* table : {"folded", "reads", "facts", "taken"}) {
    db.execute(fmt::format("DROP TABLE temp.{}", table));
  }
}

}  // namespace

void write_aligned_trace(const std::filesystem::path& from, const std::vector<AlignedStep>& aligned,
                         const std::string& model, const std::filesystem::path& to) {
  TraceDb db = TraceDb::create(to);
  copy_rows(db, from);
  for (const AlignedStep& step : aligned) give(db, step);
  const std::string notes = db.meta("notes");
  db.set_meta("notes",
              (notes.empty() ? "" : notes + "; ") + "operands by preserve-tune --model " + model);
  db.finish();
}

}  // namespace preserve::align
