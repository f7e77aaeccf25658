// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/cells.h"

#include <fmt/ranges.h>

#include <charconv>
#include <string_view>

#include "common/error.h"

namespace preserve {
namespace {

// Takes the number in front, and the sign behind it, from `text`.
int64_t take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc()) throw internal_error("a rank sent no number of a cell");
  text.remove_prefix(std::min(text.size(), static_cast<size_t>(end - text.data()) + 1));
  return number;
}

}  // namespace

std::string to_text(const std::vector<CellRange>& ranges) {
  std::string text;
  for (const CellRange& range : ranges) text += fmt::format("{}-{} ", range.first, range.last);
  return text;
}

CellQueue::CellQueue(const std::string& ranges) {
  for (std::string_view rest = ranges; !rest.empty();) {
    const int64_t first = take_number(rest);
    ranges_.push_back({first, take_number(rest)});
  }
}

std::vector<int64_t> CellQueue::take(int64_t most) {
  std::vector<int64_t> ids = std::exchange(returned_, {});
  while (static_cast<int64_t>(ids.size()) < most && next_ < ranges_.size()) {
    CellRange& range = ranges_[next_];
    ids.push_back(range.first++);
    if (range.first > range.last) ++next_;
  }
  return ids;
}

std::string to_text(const RoundNote& note) {
  return fmt::format("{} {} {} {}", note.stop ? 1 : 0, note.finished.size(),
                     fmt::join(note.finished, " "), note.results);
}

RoundNote read_round_note(const std::string& text) {
  std::string_view rest = text;
  RoundNote note;
  note.stop = take_number(rest) != 0;
  note.finished.resize(static_cast<size_t>(take_number(rest)));
  for (int64_t& id : note.finished) id = take_number(rest);
  if (note.finished.empty() && !rest.empty()) rest.remove_prefix(1);  // the gap of an empty list
  note.results = rest;
  return note;
}

}  // namespace preserve
