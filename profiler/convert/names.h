// SPDX-License-Identifier: Apache-2.0
// Names on their way into trace.db: interned once, and readable again while the file is being made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "db/trace_db.h"
#include "profiler/gpu/activity_rows.h"

namespace preserve {

class Names {
 public:
  explicit Names(TraceDb& db) : db_(db) {}
  uint32_t id(std::string_view text) {
    const auto value = static_cast<uint32_t>(db_.intern(text).value);
    if (texts_.size() < kMostTexts) texts_.try_emplace(value, text);
    return value;
  }
  // Of an id() that was given before.
  std::string text(uint32_t id) const {
    if (const auto known = texts_.find(id); known != texts_.end()) return known->second;
    return gpu::text_of(db_, id);
  }

 private:
  // Held in memory: a recording may have millions of different names.
  static constexpr size_t kMostTexts = 100'000;
  TraceDb& db_;
  std::unordered_map<uint32_t, std::string> texts_;
};

}  // namespace preserve
