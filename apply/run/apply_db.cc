// SPDX-License-Identifier: Apache-2.0
#include "apply/run/apply_db.h"

#include <algorithm>

#include "db/trace_db.h"

namespace preserve::apply {
namespace {

void write_processes(TraceDb& db, const Outcomes& outcomes) {
  for (const Outcome& outcome : outcomes.processes) {
    const OutcomeHeader& header = outcome.view.header();
    ProcessRow row;
    row.host = outcome.view.host();
    row.pid = header.pid;
    if (outcome.is_rank()) {
      row.rank = header.rank;
      row.world_size = header.ranks;
    }
    row.command = outcome.view.program();
    row.start_ns = header.loaded_ns;
    row.end_ns = std::max({header.loaded_ns, header.locked_ns, header.decided_ns});
    row.complete = header.ended != 0;
    const ProcessId process = db.add(row);
    if (!outcome.is_rank()) continue;
    db.add_loss(process, "apply", "received",
                static_cast<int64_t>(header.fetched_bytes + header.dropped_bytes));
    db.add_loss(process, "apply", "written", static_cast<int64_t>(header.fetched_bytes));
    db.add_loss(process, "apply", "bytes not reached before their window ended",
                static_cast<int64_t>(header.dropped_bytes));
  }
}

// As far as they can be compared, in the order of execution.
void write_blocks(TraceDb& db, const std::vector<Block>& blocks, const ReplayResult& result) {
  for (const Block& block : blocks) {
    const size_t arm = block.arm == Arm::original ? 0 : block.arm == Arm::applied ? 1 : 2;
    if (arm >= result.arms.size()) continue;
    write_sample(db, arm, block.pair, block.position, block.step_ns,
                 block.counted ? "" : "unpaired");
  }
}

}  // namespace

void write_apply_db(const std::filesystem::path& path, const Outcomes& outcomes,
                    const std::vector<Block>& blocks, const ReplayResult& result,
                    const std::map<std::string, std::string>& meta) {
  TraceDb db = TraceDb::create(path);
  db.set_meta("kind", kApplied);
  db.set_meta("incomplete", "0");
  for (const auto& [key, value] : meta) db.set_meta(key, value);
  write_result(db, result);
  write_blocks(db, blocks, result);
  write_processes(db, outcomes);
  db.finish();
}

}  // namespace preserve::apply
