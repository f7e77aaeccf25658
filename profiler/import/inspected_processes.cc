// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/inspected_processes.h"

#include <algorithm>
#include <map>

namespace preserve::import {

std::vector<std::vector<InspectedProcess>> inspected_by(
    const TraceDb& db, const std::vector<ImportedProcess>& processes,
    std::optional<int64_t> world_size,
    const std::vector<std::pair<std::string, InspectorLog>>& read) {
  std::map<int64_t, std::vector<size_t>> with_pid;
  std::map<int64_t, size_t> with_rank;
  for (size_t i = 0; i < processes.size(); ++i) {
    const ImportedProcess& process = processes[i];
    const int64_t pid =
        db.query_integer("SELECT pid FROM process WHERE id = ?", {process.id.value}).value_or(0);
    with_pid[pid].push_back(i);
    if (process.rank) with_rank.emplace(*process.rank, i);
  }
  const int64_t world = std::max(world_size.value_or(1), std::ssize(processes));
  std::vector<std::vector<InspectedProcess>> logs;
  for (const auto& [file, log] : read) {
    std::map<size_t, InspectedProcess> inspected;  // by place in processes
    const auto seen_by = [&](size_t i, const InspectedCommunicator& communicator) {
      inspected.try_emplace(i, InspectedProcess{processes[i].id})
          .first->second.communicators.push_back(&communicator);
    };
    for (const InspectedCommunicator& communicator : log.communicators) {
      const auto of_pid = with_pid.find(communicator.pid);
      const auto of_rank = with_rank.find(communicator.rank);
      if (communicator.pid != 0 && of_pid != with_pid.end() && of_pid->second.size() == 1) {
        seen_by(of_pid->second.front(), communicator);
      } else if (world == communicator.ranks && of_rank != with_rank.end()) {
        seen_by(of_rank->second, communicator);
      } else if (world == 1 && read.size() == 1 &&
                 (!processes.front().rank || communicator.ranks != 1)) {
        seen_by(0, communicator);
      }
    }
    std::vector<InspectedProcess>& all = logs.emplace_back();
    for (auto& [i, process] : inspected) {
      // Of one communicator in one log only one rank may be this process.
      const auto& own = process.communicators;
      const bool several = std::ranges::any_of(
          own, [&](const auto* each) { return each->rank != own.front()->rank; });
      if (processes[i].rank || !several) all.push_back(std::move(process));
    }
  }
  return logs;
}

}  // namespace preserve::import
