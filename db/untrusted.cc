// SPDX-License-Identifier: Apache-2.0
#include "db/untrusted.h"

#include <sqlite3.h>
#include <time.h>

#include <algorithm>
#include <initializer_list>

namespace preserve {
namespace {

constexpr int64_t kNsPerByte = 1'000;  // a legitimate reader takes some 10 ns per byte and pass
constexpr int64_t kMostBytes = int64_t{1} << 50;
constexpr int kInstructionsBetweenLooks = 10'000;

// Of this thread: a busy machine does not make a file hostile.
int64_t processor_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

void switch_off(sqlite3* handle, std::initializer_list<int> options) {
  for (const int option : options) sqlite3_db_config(handle, option, 0, nullptr);
}

// 0 where there is none.
int64_t bytes_of(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  return error ? 0 : static_cast<int64_t>(std::min<std::uintmax_t>(bytes, kMostBytes));
}

}  // namespace

void Distrust::apply(sqlite3* handle) {
  constexpr int kLongestValueBytes = 256 << 20;  // the largest text of ours is a device file
  constexpr int kDeepestExpression = 100;
  switch_off(handle, {SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_ENABLE_VIEW,
                      SQLITE_DBCONFIG_ENABLE_TRIGGER});
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, kLongestValueBytes);
  sqlite3_limit(handle, SQLITE_LIMIT_EXPR_DEPTH, kDeepestExpression);
  sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
  bytes_ = bytes_of(sqlite3_db_filename(handle, "main"));
  watch(handle, bytes_);
}

void Distrust::grown_to(int64_t bytes) {
  if (bytes <= bytes_) return;
  allowed_ns_ += kNsPerByte * (std::min(bytes, kMostBytes) - bytes_);
  bytes_ = bytes;
}

void Distrust::apply_to_attached(sqlite3* handle, const std::filesystem::path& file) {
  switch_off(handle, {SQLITE_DBCONFIG_TRUSTED_SCHEMA});
  watch(handle, bytes_of(file));
}

void Distrust::watch(sqlite3* handle, int64_t bytes) {
  allowed_ns_ += kNsPerByte * bytes;
  sqlite3_trace_v2(
      handle, SQLITE_TRACE_STMT,
      [](unsigned, void* self, void*, void*) {
        static_cast<Distrust*>(self)->begin();
        return 0;
      },
      this);
  sqlite3_progress_handler(
      handle, kInstructionsBetweenLooks,
      [](void* self) { return static_cast<Distrust*>(self)->time_is_over() ? 1 : 0; }, this);
}

// What a tool computes between two statements is its own time.
void Distrust::begin() {
  seen_ns_ = processor_ns();
}

bool Distrust::time_is_over() {
  const int64_t now_ns = processor_ns();
  spent_ns_ += std::max<int64_t>(0, now_ns - seen_ns_);  // another thread has another clock
  seen_ns_ = now_ns;
  return spent_ns_ > allowed_ns_;
}

std::string sqlite_error(sqlite3* handle) {
  if (sqlite3_errcode(handle) != SQLITE_INTERRUPT) return sqlite3_errmsg(handle);
  return "reading it takes far longer than a file of its size can need: it is damaged, or was made "
         "to keep its readers busy";
}

}  // namespace preserve
