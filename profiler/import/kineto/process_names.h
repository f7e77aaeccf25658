// SPDX-License-Identifier: Apache-2.0
// Processes and threads of a Chrome trace: what their names say of rank and role. Processes are
// numbers with a name in an event of metadata, which may stand anywhere in the file, or words.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "profiler/import/kineto/event.h"
#include "profiler/import/kineto/writers.h"
#include "profiler/import/rank_names.h"

namespace preserve::import {

class ProcessNames {
 public:
  struct Process {
    std::string name{};
    ProcessRole role{};
    RankName rank{};
    int64_t id = 0;  // what tells it from the others: its number, negative for a word
    bool asked_for = false, role_asked_for = false;
  };

  // `file` is for messages.
  explicit ProcessNames(std::string file) : file_(std::move(file)) {}

  // An event of metadata.
  void note(const Event& metadata);
  // The rank that the event's process names; empty: none.
  const RankName& rank_of(const Event& event);
  // Of an event whose process says what it is.
  const Process& role_of(const Event& event);
  int64_t id_of(const Event& event) {
    return event.process_text.empty() ? event.process : named(event.process_text).id;
  }
  // Whether the event stands on a thread that repeats what others say.
  bool is_derived(const Event& event);
  const std::string& name_of(int64_t id) const;
  std::map<int64_t, std::string> all() const;  // by id

  // A name came after events that mean something else with it: the file is to be read once more,
  // with these names.
  bool came_late() const { return came_late_; }
  void read_again() { came_late_ = false; }
  void forget_ranks() { ranks_count_ = false; }

 private:
  Process& of(const Event& event);
  Process& named(const std::string& word);

  std::string file_;
  std::map<int64_t, Process> numbered_;
  Process others_;                        // beyond the limit: all of them, without a name
  std::map<std::string, Process> named_;  // those whose id is a word
  std::map<std::pair<int64_t, int64_t>, std::string> threads_;
  Process* last_ = nullptr;  // numbered
  bool came_late_ = false, ranks_count_ = true;
};

}  // namespace preserve::import
