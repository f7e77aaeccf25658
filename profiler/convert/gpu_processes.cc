// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/gpu_processes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace preserve {
namespace {

// On which `process` ran more than copies, in order of their numbers.
std::vector<DeviceId> computing_devices(const TraceDb& db, ProcessId process, int64_t before) {
  std::vector<DeviceId> devices;
  // One operator is enough where there is no choice.
  const auto streams = db.query_integer(
      "SELECT COUNT(DISTINCT device_id) FROM stream WHERE process_id = ? AND kind = 'gpu'",
      {process.value});
  Query rows = db.query(
      std::string("SELECT DISTINCT device_id FROM stream WHERE process_id = ? AND kind = 'gpu' AND "
                  "id IN (SELECT stream_id FROM op WHERE id > ? AND kind <> 'copy'") +
          (streams.value_or(0) < 2 ? " LIMIT 1" : "") + ") ORDER BY device_id",
      {process.value, before});
  while (rows.next()) devices.push_back({rows.integer(0)});
  return devices;
}

// The ranges of `from`'s threads around what runs in `to`, and those that need not nest around it.
void copy_ranges(TraceDb& db, ProcessId from, ProcessId to, int64_t before, int64_t first_range) {
  db.execute(
      "CREATE TEMP TABLE around AS WITH RECURSIVE up (id) AS ("
      "SELECT range_id FROM op WHERE id > ?3 AND range_id IS NOT NULL AND stream_id IN "
      "(SELECT id FROM stream WHERE process_id = ?1) "
      "UNION SELECT parent_id FROM up JOIN range USING (id) WHERE parent_id IS NOT NULL) "
      "SELECT range.* FROM range JOIN stream ON stream.id = stream_id "
      "WHERE range.id >= ?4 AND process_id = ?2 AND stream.kind = 'thread' "
      "AND (range.kind = 'start_end' OR range.id IN (SELECT id FROM up))",
      {to.value, from.value, before, first_range});
  std::map<int64_t, StreamId> threads;
  {
    Query rows = db.query(
        "SELECT id, device_id, native_id, name FROM stream WHERE id IN (SELECT stream_id FROM "
        "around) ORDER BY id");
    std::vector<std::pair<int64_t, StreamRow>> streams;
    while (rows.next()) {
      streams.push_back({rows.integer(0), StreamRow{to,
                                                    {rows.integer(1)},
                                                    StreamKind::thread,
                                                    rows.integer(2),
                                                    std::string(rows.text(3))}});
    }
    for (const auto& [stream, row] : streams) threads[stream] = db.add(row);
  }
  std::map<int64_t, RangeId> copies;  // parents have smaller numbers
  Query rows = db.query(
      "SELECT id, stream_id, parent_id, kind = 'start_end', domain_id, name_id, depth, start_ns, "
      "end_ns, payload FROM around ORDER BY id");
  while (rows.next()) {
    RangeRow copy{.stream = threads.at(rows.integer(1)),
                  .kind = rows.integer(3) != 0 ? RangeKind::start_end : RangeKind::push_pop,
                  .domain = {rows.optional_integer(4).value_or(0)},
                  .name = {rows.integer(5)},
                  .depth = rows.integer(6),
                  .start_ns = rows.integer(7),
                  .end_ns = rows.optional_integer(8),
                  .payload = rows.text(9)};
    const auto parent = copies.find(rows.optional_integer(2).value_or(0));
    if (parent != copies.end()) copy.parent = parent->second;
    copies[rows.integer(0)] = db.add(copy);
  }
  db.execute("CREATE TEMP TABLE copied (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)");
  for (const auto& [old, copy] : copies) {
    db.execute("INSERT INTO copied VALUES (?, ?)", {old, copy.value});
  }
  for (const auto& [table, column, after] :
       {std::tuple("op", "range_id", before), {"range", "parent_id", first_range - 1}}) {
    db.execute(fmt::format("UPDATE {0} SET {1} = (SELECT new FROM copied WHERE old = {1}) WHERE "
                           "id > ? AND {1} IN (SELECT old FROM copied) AND stream_id IN "
                           "(SELECT id FROM stream WHERE process_id = ? AND kind = 'gpu')",
                           table, column),
               {after, to.value});
  }
}

}  // namespace

std::vector<ProcessId> one_process_per_gpu(TraceDb& db, ProcessId process, const ProcessRow& row,
                                           int64_t before, int64_t first_range,
                                           const std::string& name,
                                           std::vector<std::string>& warnings) {
  std::vector<DeviceId> devices = computing_devices(db, process, before);
  if (devices.size() > kMostGpus) {
    warnings.push_back(
        fmt::format("{} ran kernels on {} GPUs, as a damaged recording says: they stay one process",
                    name, devices.size()));
    devices.resize(1);
  }
  std::vector<ProcessId> processes;
  for (const DeviceId device : devices) {
    if (processes.empty()) {
      processes.push_back(process);
      continue;
    }
    processes.push_back(db.add(row));
    const ProcessId own = processes.back();
    db.execute(
        "UPDATE stream SET process_id = ? WHERE process_id = ? AND device_id = ? AND kind = 'gpu'",
        {own.value, process.value, device.value});
    copy_ranges(db, process, own, before, first_range);
    db.execute("DROP TABLE temp.around");
    db.execute("DROP TABLE temp.copied");
  }
  return processes;
}

namespace {

// Where other ranks are in recordings of their own, nobody knows how many GPUs come before.
bool holds_every_rank(const std::vector<RecordedProcess>& processes) {
  int64_t ranks = 0;
  for (const RecordedProcess& process : processes) {
    if (process.rank && *process.rank != ranks++) return false;
  }
  return processes.front().world_size == ranks;
}

// Only the first GPU has the rank of its process; merge_traces() counts the others.
std::vector<std::string> leave_ranks_to_merging(TraceDb& db,
                                                const std::vector<RecordedProcess>& processes) {
  std::vector<std::string> notes;
  for (const RecordedProcess& process : processes) {
    for (size_t i = 1; process.rank && i < process.gpus.size(); ++i) {
      db.execute("UPDATE process SET rank = NULL, world_size = NULL WHERE id = ?",
                 {process.gpus[i].value});
    }
    if (!process.rank || process.gpus.size() < 2) continue;
    notes.push_back(
        fmt::format("{} ran kernels on {} GPUs: a process each, the first is rank {}; merged with "
                    "the recordings of all other ranks, each GPU is a rank",
                    process.name, process.gpus.size(), *process.rank));
  }
  return notes;
}

}  // namespace

std::vector<std::string> count_gpus_as_ranks(TraceDb& db,
                                             const std::vector<RecordedProcess>& processes) {
  std::vector<std::string> notes;
  const bool several =
      std::ranges::any_of(processes, [](const auto& process) { return process.gpus.size() > 1; });
  if (!several) return notes;
  const bool ranked = processes.front().rank.has_value();
  if (ranked && !holds_every_rank(processes)) return leave_ranks_to_merging(db, processes);
  std::vector<std::tuple<ProcessId, int64_t, std::optional<int64_t>>> numbered;
  int64_t before = 0;  // ranked: how many ranks more than processes; else: ranks
  for (const RecordedProcess& process : processes) {
    if (process.rank.has_value() != ranked) break;
    if (!ranked && process.gpus.empty()) continue;
    const int64_t first = process.rank.value_or(0) + before;
    const int64_t gpus = std::max<int64_t>(std::ssize(process.gpus), 1);
    numbered.emplace_back(process.id, first, process.world_size);
    for (int64_t i = 1; i < gpus; ++i) {
      numbered.emplace_back(process.gpus[static_cast<size_t>(i)], first + i, process.world_size);
    }
    before += ranked ? gpus - 1 : gpus;
    if (gpus == 1) continue;
    notes.push_back(fmt::format(
        "{} ran kernels on {} GPUs: they are ranks {} to {} of the recording, a process each",
        process.name, gpus, first, first + gpus - 1));
  }
  for (const auto& [process, rank, world_size] : numbered) {
    SqlValue size = nullptr;
    if (world_size || !ranked) size = world_size.value_or(0) + before;
    db.execute("UPDATE process SET rank = ?, world_size = ? WHERE id = ?",
               {rank, size, process.value});
  }
  return notes;
}

}  // namespace preserve
