// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/step_table.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "planner/schedule/json_document.h"

namespace preserve {
namespace {

using nlohmann::ordered_json;

int64_t bytes_of(const StepOp& op) {
  return op.collective ? op.collective->bytes.value_or(0) : read_bytes(op);
}

std::string shape_of(const StepOp& op) {
  return op.gemm ? fmt::format("{}x{}x{}", op.gemm->m, op.gemm->n, op.gemm->k) : "";
}

std::string dtype_of(const StepOp& op) {
  return op.gemm ? op.gemm->dtype : "";
}

template <typename Row>
void for_each(const Workload& workload, const Row& row) {
  for (size_t i = 0; i < workload.step.ops.size(); ++i) {
    row(workload.step.ops[i], workload.notes[i]);
  }
}

std::string as_text(const Workload& workload) {
  std::string text = workload.summary;
  text += fmt::format("{:>6}  {:<32} {:<10} {:>12} {:>18} {:<5} {:>10}  {}\n", "", "operator",
                      "class", "bytes", "m x n x k", "type", "us", "time from");
  for_each(workload, [&](const StepOp& op, const OperatorNote& note) {
    text += fmt::format("{:>6}  {:<32} {:<10} {:>12} {:>18} {:<5} {:>10.2f}  {}\n", op.ordinal,
                        op.name, note.kind, bytes_of(op), shape_of(op), dtype_of(op),
                        op.dur_ns / 1e3, note.time_source);
  });
  return text;
}

std::string as_csv(const Workload& workload) {
  std::string text = "ordinal,operator,class,bytes,m,n,k,dtype,dur_ns,time_source\n";
  for_each(workload, [&](const StepOp& op, const OperatorNote& note) {
    const std::string shape =
        op.gemm ? fmt::format("{},{},{}", op.gemm->m, op.gemm->n, op.gemm->k) : ",,";
    text +=
        fmt::format("{},{},{},{},{},{},{},\"{}\"\n", op.ordinal, op.name, note.kind, bytes_of(op),
                    shape, dtype_of(op), std::llround(op.dur_ns), note.time_source);
  });
  return text;
}

std::string as_json(const Workload& workload) {
  ordered_json operators = ordered_json::array();
  for_each(workload, [&](const StepOp& op, const OperatorNote& note) {
    ordered_json row{{"ordinal", op.ordinal},
                     {"operator", op.name},
                     {"class", note.kind},
                     {"bytes", bytes_of(op)}};
    if (op.gemm) {
      row["m"] = op.gemm->m;
      row["n"] = op.gemm->n;
      row["k"] = op.gemm->k;
      row["dtype"] = op.gemm->dtype;
    }
    row["dur_ns"] = std::llround(op.dur_ns);
    row["time_source"] = note.time_source;
    operators.push_back(std::move(row));
  });
  const WorkloadBytes& bytes = workload.bytes;
  return dump_json({{"step", workload.step.trace_file},
                    {"summary", workload.summary},
                    {"step_ns", std::llround(workload.step.wall_ns)},
                    {"ranks", workload.step.world_size},
                    {"weight_bytes", bytes.weights},
                    {"head_bytes", bytes.head},
                    {"embedding_bytes", bytes.embedding},
                    {"kv_bytes", bytes.kv},
                    {"state_bytes", bytes.state},
                    {"warnings", workload.step.warnings},
                    {"operators", operators}});
}

}  // namespace

const char* to_string(TableFormat format) {
  return std::array{"text", "csv", "json"}.at(static_cast<size_t>(format));
}

std::string step_table(const Workload& workload, TableFormat format) {
  switch (format) {
    case TableFormat::text:
      return as_text(workload);
    case TableFormat::csv:
      return as_csv(workload);
    case TableFormat::json:
      return as_json(workload);
  }
  throw internal_error("no such table format");
}

}  // namespace preserve
