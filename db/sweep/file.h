// SPDX-License-Identifier: Apache-2.0
// A file of cells that grows: made once for a command, resumed by the same command however the last
// one ended, refused to any other. What makes two commands the same stands in its meta.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

// What makes two commands the same sweep, by name.
using SweepIdentity = std::vector<std::pair<std::string, std::string>>;

struct SweepKind {
  const char* name;   // meta kind; the identity is NAME_...
  const char* other;  // what is said of a file of another kind: "is not a grid"
};

// Opens `path` to grow, or makes it when it is missing or `anew` is set; `fill` writes what a new
// file begins with. An empty path: in memory, for one run. input_error when the file is of another
// kind or identity: the message names what differs.
TraceDb open_sweep(const std::filesystem::path& path, const SweepKind& kind,
                   const SweepIdentity& identity, bool anew,
                   const std::function<void(TraceDb&)>& fill = {});

}  // namespace preserve
