// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/activity_rows.h"

namespace preserve::gpu {

std::string text_of(const TraceDb& db, int64_t string) {
  Query row = db.query("SELECT value FROM string WHERE id = ?", {string});
  return row.next() ? std::string(row.text(0)) : std::string();
}

std::optional<int64_t> message_bytes(const CollectiveFacts& facts) {
  if (facts.bytes) return facts.bytes;
  const auto elements = facts.function == "reduce_scatter" && facts.out_elements
                            ? facts.out_elements
                            : facts.in_elements;
  const auto element_bytes = dtype_bytes(facts.dtype);
  int64_t bytes = 0;
  if (!elements || !element_bytes || __builtin_mul_overflow(*elements, *element_bytes, &bytes) ||
      bytes < 0) {
    return std::nullopt;
  }
  return bytes;
}

OpId add_op(TraceDb& db, const Activity& activity, StreamId stream, OpKind kind, StringId name,
            RangeId range, StepId step) {
  OpRow row{.stream = stream,
            .kind = kind,
            .name = name,
            .start_ns = activity.start_ns,
            .end_ns = activity.end_ns,
            .range = range,
            .step = step};
  if (activity.correlation != 0) row.correlation_id = activity.correlation;
  if (activity.graph != 0) row.graph_id = activity.graph;
  if (activity.graph_node != kNoNode) row.graph_node_id = activity.graph_node;
  const OpId op = db.add(row);
  if (activity.is_copy && activity.bytes >= 0) {
    db.add_counter(op, "copy_bytes", static_cast<double>(activity.bytes));
  }
  return op;
}

void add_collective(TraceDb& db, OpId op, const CollectiveFacts& facts, bool blocking) {
  db.add(CollectiveRow{
      .op = op,
      .function = facts.function.empty() ? std::string_view("unknown") : facts.function,
      .bytes = message_bytes(facts),
      .dtype = facts.dtype,
      .ranks = facts.ranks,
      .communicator = facts.communicator,
      .sequence = facts.sequence,
      .peer = facts.peer,
      .blocking = blocking,
      .source = facts.source,
      .confidence = facts.confidence});
}

void complete_collective(TraceDb& db, OpId op, const CollectiveFacts& facts) {
  const std::optional<int64_t> bytes = message_bytes(facts);
  if (!bytes) return;
  db.execute(
      "UPDATE collective SET bytes = ?2, dtype = ?3, ranks = COALESCE(ranks, ?4), source = ?5, "
      "confidence = ?6, function = CASE WHEN function = 'unknown' AND ?7 <> '' THEN ?7 ELSE "
      "function END WHERE op_id = ?1 AND bytes IS NULL",
      {op.value, *bytes, facts.dtype, facts.ranks ? SqlValue(*facts.ranks) : SqlValue(),
       std::string(facts.source), facts.confidence, facts.function});
}

}  // namespace preserve::gpu
