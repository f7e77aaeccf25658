// SPDX-License-Identifier: Apache-2.0
// What SQLite may do for a database that somebody else wrote. Such a file can hold views that
// compute for ever, triggers, text of any length, and pages that refer to each other so that a few
// of them are read as billions of rows (https://www.sqlite.org/security.html).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/no_copy.h"

struct sqlite3;

namespace preserve {

// Lives as long as the connection that it is applied to.
class Distrust : NoCopy {
 public:
  // `least_ns`: processor time that the statements of the connection may take altogether; a
  // connection gets more for every byte of its files.
  explicit Distrust(int64_t least_ns = int64_t{60'000'000'000}) : allowed_ns_(least_ns) {}

  // Of a connection whose own file is foreign, before its first statement: views and triggers of
  // the file are off (temporary ones of ours are not), functions in its schema may have no side
  // effects, lengths and depths are bounded, no other file is attached.
  void apply(sqlite3* handle);
  // Of a connection with a file of ours, before a foreign one is attached to it: the same, but that
  // our views, triggers and lengths stay possible.
  void apply_to_attached(sqlite3* handle, const std::filesystem::path& file);
  // The file of apply() is that large by now.
  void grown_to(int64_t bytes);

 private:
  void watch(sqlite3* handle, int64_t bytes);
  void begin();
  bool time_is_over();

  int64_t allowed_ns_, spent_ns_ = 0, seen_ns_ = 0;
  int64_t bytes_ = 0;  // of the file of apply()
};

// Why the last call failed, also when it took more time than Distrust gave.
std::string sqlite_error(sqlite3* handle);

}  // namespace preserve
