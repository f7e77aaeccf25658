// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/page_use.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>

#include "profiler/collector/foreign_process.h"

namespace preserve::collector {
namespace {

int rollup = -1;  // /proc/self/smaps_rollup

// "Name:     123 kB", on a line of its own.
bool find_kib(const char* text, const char* line, uint64_t* bytes) {
  const char* at = std::strstr(text, line);
  if (at == nullptr) return false;
  *bytes = ::strtoull(at + std::strlen(line), nullptr, 10) * 1024;
  return true;
}

// The number may be a file of the program's by now.
bool read_rollup(char* text, size_t bytes) {
  const ssize_t got = ::pread(rollup, text, bytes - 1, 0);
  text[got > 0 ? got : 0] = '\0';
  return std::strstr(text, "[rollup]\n") != nullptr;
}

}  // namespace

void open_page_use() {
  const int low = ::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  rollup = low < 0 ? -1 : move_up(low);
  // A program with few descriptors needs each.
  if (rollup >= 0 && rollup < kHighDescriptor) close_page_use();
}

void close_page_use() {
  char text[2048];
  if (rollup >= 0 && read_rollup(text, sizeof(text))) ::close(rollup);
  rollup = -1;
}

bool read_page_use(PageUse* use) {
  char text[2048];
  return rollup >= 0 && read_rollup(text, sizeof(text)) &&
         find_kib(text, "\nAnonymous:", &use->anonymous_bytes) &&
         find_kib(text, "\nAnonHugePages:", &use->huge_bytes);
}

}  // namespace preserve::collector
