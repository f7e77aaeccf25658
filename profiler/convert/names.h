// SPDX-License-Identifier: Apache-2.0
// Names on their way into trace.db: interned once, and readable again while the file is being made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

class Names {
 public:
  explicit Names(TraceDb& db) : db_(db) {}
  uint32_t id(std::string_view text) {
    const auto value = static_cast<uint32_t>(db_.intern(text).value);
    if (value >= texts_.size()) texts_.resize(value + 1);
    if (texts_[value].empty()) texts_[value] = text;
    return value;
  }
  const std::string& text(uint32_t id) const { return texts_[id]; }

 private:
  TraceDb& db_;
  std::vector<std::string> texts_;  // by id
};

}  // namespace preserve
