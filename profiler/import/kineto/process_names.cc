// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/process_names.h"

#include "common/error.h"

namespace preserve::import {
namespace {

constexpr size_t kProcessLimit = 1000;
constexpr size_t kThreadLimit = 10'000;

}  // namespace

ProcessNames::Process& ProcessNames::named(const std::string& word) {
  const auto [entry, fresh] = named_.try_emplace(word);
  Process& process = entry->second;
  if (fresh) {
    process = {.name = word,
               .role = role_of_process(word),
               .rank = rank_in_label(word),
               .id = -static_cast<int64_t>(named_.size())};
    if (named_.size() > kProcessLimit) {
      throw input_error("{}: has more than {} processes", file_, kProcessLimit);
    }
  }
  return process;
}

ProcessNames::Process& ProcessNames::of(const Event& event) {
  if (!event.process_text.empty()) return named(event.process_text);
  if (last_ != nullptr && last_->id == event.process) return *last_;
  // What is beyond the limit shares one process without a name.
  if (numbered_.size() >= kProcessLimit && numbered_.count(event.process) == 0) return others_;
  last_ = &numbered_[event.process];
  last_->id = event.process;
  return *last_;
}

const RankName& ProcessNames::rank_of(const Event& event) {
  static const RankName kNone;
  Process& process = of(event);
  process.asked_for = true;
  return ranks_count_ ? process.rank : kNone;
}

const ProcessNames::Process& ProcessNames::role_of(const Event& event) {
  Process& process = of(event);
  process.role_asked_for = true;
  return process;
}

void ProcessNames::note(const Event& metadata) {
  if (metadata.name == "thread_name" && threads_.size() < kThreadLimit) {
    threads_.try_emplace({metadata.process, metadata.thread}, metadata.text);
  }
  const bool is_name = metadata.name == "process_name";
  if (!is_name && metadata.name != "process_labels") return;
  if (!metadata.process_text.empty()) return;
  Process& process = of(metadata);
  if (process.id != metadata.process) return;
  if (is_name && process.name.empty()) {
    process.name = metadata.text;
    process.role = role_of_process(metadata.text);
    const bool runs_on_it =
        process.role.role == Role::device || process.role.role == Role::communication;
    came_late_ = came_late_ || (process.role_asked_for && runs_on_it);
  }
  const RankName rank = rank_in_label(metadata.text);
  if (!rank.says_anything() || process.rank.says_anything()) return;
  process.rank = rank;
  came_late_ = came_late_ || process.asked_for;
}

bool ProcessNames::is_derived(const Event& event) {
  const auto thread = threads_.find({event.process, event.thread});
  return thread != threads_.end() &&
         role_of_thread(of(event).name, thread->second) == Role::derived;
}

const std::string& ProcessNames::name_of(int64_t id) const {
  static const std::string kNone;
  const auto found = numbered_.find(id);
  return found == numbered_.end() ? kNone : found->second.name;
}

std::map<int64_t, std::string> ProcessNames::all() const {
  std::map<int64_t, std::string> names;
  for (const auto& [id, process] : numbered_) names.emplace(id, process.name);
  for (const auto& [word, process] : named_) names.emplace(process.id, word);
  return names;
}

}  // namespace preserve::import
