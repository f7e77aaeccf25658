// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/rank_assignment.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

namespace preserve::import {
namespace {

class Ranks {
 public:
  Ranks(TraceDb& db, std::vector<ImportedProcess>& processes) : db_(db), processes_(processes) {}
  std::vector<std::string> run() {
    by_labels();
    by_files();
    by_devices();
    return std::move(guesses_);
  }

 private:
  void by_labels();
  void by_files();
  void by_devices();
  void set_rank(ImportedProcess& process, int64_t rank);

  TraceDb& db_;
  std::vector<ImportedProcess>& processes_;
  std::vector<std::string> guesses_;
};

void Ranks::set_rank(ImportedProcess& process, int64_t rank) {
  db_.execute("UPDATE process SET rank = ? WHERE id = ?", {rank, process.id.value});
  process.rank = rank;
}

void Ranks::by_labels() {
  std::vector<RankName> names;
  std::vector<ImportedProcess*> unnamed;
  for (ImportedProcess& process : processes_) {
    if (process.rank || !process.rank_name.says_anything()) continue;
    names.push_back(process.rank_name);
    unnamed.push_back(&process);
  }
  const std::vector<int64_t> ranks = ranks_of(names);
  if (ranks.empty()) return;
  for (size_t i = 0; i < ranks.size(); ++i) set_rank(*unnamed[i], ranks[i]);
  guesses_.push_back(
      fmt::format("{}: its processes name their place, not their rank: ranks {} are guessed",
                  unnamed.front()->source_file, fmt::join(ranks, ", ")));
}

void Ranks::by_files() {
  std::map<std::string, std::vector<ImportedProcess*>> by_file;
  for (ImportedProcess& process : processes_) by_file[process.source_file].push_back(&process);
  std::vector<RankName> names;
  std::vector<const std::vector<ImportedProcess*>*> unnamed;
  for (const auto& [file, processes] : by_file) {
    // Several processes of one file are its GPUs; alone they are numbered without its name.
    if (processes.front()->rank || (processes.size() != 1 && by_file.size() == 1)) continue;
    names.push_back(rank_in_file_name(std::filesystem::path(file).filename().string()));
    unnamed.push_back(&processes);
  }
  const bool alike = std::ranges::all_of(
      unnamed, [&](const auto* processes) { return processes->size() == unnamed.front()->size(); });
  if (!alike) return;
  const std::vector<int64_t> ranks = ranks_of(names);
  for (size_t i = 0; i < ranks.size(); ++i) {
    int64_t rank = ranks[i] * std::ssize(*unnamed[i]);
    for (ImportedProcess* process : *unnamed[i]) set_rank(*process, rank++);
    guesses_.push_back(
        fmt::format("{}: contains no rank; rank {} is guessed from the file's name{}{}",
                    unnamed[i]->front()->source_file, ranks[i],
                    names[i].rank ? "" : ", which gives its place in the group only",
                    unnamed[i]->size() == 1 ? "" : ", and its GPUs are counted one by one"));
  }
}

// Several processes without ranks that communicate: the order of their GPUs stands in for the rank,
// because launchers hand out GPUs in that order.
void Ranks::by_devices() {
  if (processes_.size() < 2) return;
  std::map<int64_t, ImportedProcess*> by_device;
  for (ImportedProcess& process : processes_) {
    const bool same_file = process.source_file == processes_.front().source_file;
    if (process.rank || !same_file) return;
    by_device[process.first_device] = &process;
  }
  // Of all at once: for each by itself the collectives of those before would be gone through again.
  const auto communicate = db_.query_integer(
      "SELECT COUNT(DISTINCT process_id) FROM collective JOIN op ON op.id = op_id "
      "JOIN stream ON stream.id = stream_id");
  if (communicate != std::ssize(processes_)) return;
  if (by_device.size() != processes_.size()) return;  // each counts its own visible devices
  int64_t rank = 0;
  for (auto& [device, process] : by_device) {
    db_.execute("UPDATE process SET world_size = ? WHERE id = ?",
                {static_cast<int64_t>(processes_.size()), process->id.value});
    set_rank(*process, rank++);
  }
  guesses_.push_back(
      fmt::format("the {} processes have no rank: they are numbered in the order of their GPUs, "
                  "which is a guess",
                  processes_.size()));
}

}  // namespace

std::vector<std::string> name_ranks(TraceDb& db, std::vector<ImportedProcess>& processes) {
  return Ranks(db, processes).run();
}

}  // namespace preserve::import
