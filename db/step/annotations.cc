// SPDX-License-Identifier: Apache-2.0
#include "db/step/annotations.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace preserve {
namespace {

int64_t last_row(const TraceDb& db, const char* table) {
  return db.query_integer(fmt::format("SELECT MAX(id) FROM {}", table)).value_or(0);
}

}  // namespace

// What engines call their step. [[] is a literal bracket. A mixed batch counts as prefill.
const std::vector<StepFamily>& known_step_families() {
  static const std::vector<StepFamily> kFamilies{
      {{"decode_step*", "decode step*"}, {"prefill_step*", "prefill step*"}},
      // SGLang
      {{"step[[]DECODE*"}, {"step[[]EXTEND*", "step[[]PREFILL*", "step[[]MIXED*"}},
      {{"*forward_decode*"}, {"*forward_extend*"}},
      // vLLM: numbers of context and generation requests
      {{"execute_*context_0(*generation_*"}, {"execute_*context_[1-9]*generation_*"}},
      // TensorRT-LLM
      {{"*_forward_step*: 0 ctx reqs*"}, {"*_forward_step*ctx reqs*"}},
      // Frameworks that know no phases
      {{}, {}, {"ProfilerStep#*", "execute_model*", "*_forward_step*"}}};
  return kFamilies;
}

StepNames::StepNames(StepOptions options) : options_(std::move(options)) {
  if (options_.by_period || options_.collectives > 0) return;
  if (options_.decode_globs.empty() && options_.prefill_globs.empty()) {
    families_ = known_step_families();
  } else {
    families_ = {{options_.decode_globs, options_.prefill_globs, {}}};
  }
}

const std::unordered_map<int64_t, std::vector<StepNames::Meaning>>& StepNames::meanings(
    const TraceDb& db) {
  const int64_t last = families_.empty() ? 0 : last_row(db, "string");
  if (last == seen_) return meanings_;
  for (size_t family = 0; family < families_.size(); ++family) {
    size_t number = 0;
    const auto look_for = [&](const std::vector<std::string>& globs, StepPhase phase) {
      for (const std::string& glob : globs) {
        Query rows = db.query("SELECT id FROM string WHERE id > ? AND value GLOB ?", {seen_, glob});
        while (rows.next()) {
          std::vector<Meaning>& own = meanings_[rows.integer(0)];
          // What matches two globs ("0 ctx reqs" is also "ctx reqs") is what the first one says.
          if (own.empty() || own.back().family != family) own.push_back({family, number, phase});
        }
        ++number;
      }
    };
    look_for(families_[family].decode, StepPhase::decode);
    look_for(families_[family].prefill, StepPhase::prefill);
    look_for(families_[family].unknown, StepPhase::unknown);
  }
  seen_ = last;
  return meanings_;
}

SpansOfProcesses annotated_spans(const TraceDb& db, const std::vector<StepSearch>& searches,
                                 RangeWindow window, StepNames& names) {
  SpansOfProcesses spans;
  const auto& meanings = names.meanings(db);
  if (meanings.empty()) return spans;
  struct Named {
    size_t family = SIZE_MAX;
    std::vector<std::pair<size_t, StepSpan>> spans{};  // by number of the glob
  };
  std::map<int64_t, Named> found;
  for (const StepSearch& search : searches) found[search.process.value];
  std::unordered_map<int64_t, Named*> of_stream;  // nullptr: of another process
  Query rows = db.query(
      "SELECT id, name_id, stream_id, start_ns, end_ns FROM range "
      "WHERE id BETWEEN ? AND ? AND kind <> 'mark' AND end_ns IS NOT NULL",
      {window.first, window.last});
  while (rows.next()) {
    const auto named = meanings.find(rows.integer(1));
    if (named == meanings.end()) continue;
    const auto [stream, fresh] = of_stream.try_emplace(rows.integer(2), nullptr);
    if (fresh) {
      const auto process = found.find(
          db.query_integer("SELECT process_id FROM stream WHERE id = ?", {rows.integer(2)})
              .value_or(0));
      if (process != found.end()) stream->second = &process->second;
    }
    if (stream->second == nullptr) continue;
    Named& own = *stream->second;
    for (const StepNames::Meaning& meaning : named->second) {
      if (meaning.family > own.family) continue;
      if (meaning.family < own.family) own = {meaning.family, {}};
      own.spans.emplace_back(
          meaning.glob, StepSpan{rows.integer(3), rows.integer(4), rows.integer(0), meaning.phase});
    }
  }
  for (auto& [process, own] : found) {
    std::ranges::stable_sort(own.spans,
                             [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [glob, span] : own.spans) spans[process].push_back(span);
  }
  return spans;
}

void follow_launches(const TraceDb& db, const std::vector<StepSearch>& searches, RangeWindow window,
                     SpansOfProcesses& spans) {
  using Place = std::pair<const std::vector<StepSpan>*, size_t>;
  std::unordered_map<int64_t, Place> span_of_range;
  for (const auto& [process, own] : spans) {
    for (size_t i = 0; i < own.size(); ++i) span_of_range[own[i].range] = {&own, i};
  }
  if (span_of_range.empty()) return;
  {
    // Parents have smaller row numbers than what they enclose.
    Query rows = db.query(
        "SELECT id, parent_id FROM range WHERE id BETWEEN ? AND ? AND parent_id IS NOT NULL "
        "ORDER BY id",
        {window.first, window.last});
    while (rows.next()) {
      const auto parent = span_of_range.find(rows.integer(1));
      if (parent != span_of_range.end()) span_of_range.try_emplace(rows.integer(0), parent->second);
    }
  }
  for (const StepSearch& search : searches) {
    const auto entry = spans.find(search.process.value);
    if (entry == spans.end()) continue;
    std::vector<StepSpan>& own = entry->second;
    std::vector<StepSpan> moved(own.size());
    bool any = false;
    search.operators->launched([&](int64_t range, int64_t start_ns, int64_t end_ns) {
      const auto found = span_of_range.find(range);
      if (found == span_of_range.end() || found->second.first != &own) return;
      const size_t place = found->second.second;
      StepSpan& span = moved[place];
      const bool first = span.range == 0;
      span.start_ns = first ? start_ns : std::min(span.start_ns, start_ns);
      span.end_ns = first ? end_ns : std::max(span.end_ns, end_ns);
      span.range = own[place].range;
      span.phase = own[place].phase;
      any = true;
    });
    if (!any) continue;
    std::erase_if(moved, [](const StepSpan& span) { return span.range == 0; });
    std::ranges::sort(moved, [](const StepSpan& a, const StepSpan& b) {
      return a.start_ns != b.start_ns ? a.start_ns < b.start_ns : a.range < b.range;
    });
    for (size_t i = 0; i + 1 < moved.size(); ++i) {
      moved[i].end_ns = std::min(moved[i].end_ns, moved[i + 1].start_ns);
    }
    own = std::move(moved);
  }
}

}  // namespace preserve
