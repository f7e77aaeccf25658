// SPDX-License-Identifier: Apache-2.0
// Ranks by names, where a trace has no number for them: of its processes ("[TP00-PP01] 5000",
// "rank 3"), of its file ("trace_rank3.json", "ID-TP-0-PP-1.trace.json"). What a name says of a
// rank is a guess, and callers say so.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace preserve::import {

struct RankName {
  std::optional<int64_t> rank{};  // "rank3", "worker_3"
  // Place in each dimension of parallelism: {"tp", 0}, {"pp", 1}.
  std::map<std::string, int64_t> place{};
  bool says_anything() const { return rank || !place.empty(); }
  auto operator<=>(const RankName&) const = default;
};

// Of a process. Words stand at the front: "[TP00] 5000", "rank 3: python", "Rank3".
RankName rank_in_label(std::string_view label);

// Of a file, without folders. "rank" or "worker" and a number, the last that there is. A place is
// upper case with a dash, "TP-3": tp4, as in "llama_tp4_0.json", is how many there are.
RankName rank_in_file_name(std::string_view name);

// The rank of each name when all of them say enough and no two say the same: a dimension in which
// all agree tells nothing; where only TP is left its number is the rank; else they are counted in
// the order PP, DP, CP, TP, EP, the order in which launchers hand out ranks. Empty otherwise.
std::vector<int64_t> ranks_of(const std::vector<RankName>& names);

}  // namespace preserve::import
