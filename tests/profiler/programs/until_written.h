// SPDX-License-Identifier: Apache-2.0
// How a profiled program waits for the profiler, without a guess how long that takes on a busy
// machine: by the spool file among its own descriptors. Alone it waits for nothing.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace preserve::test {

// The spool that this process writes, also while it has no header yet; empty when it writes none.
inline std::filesystem::path own_spool() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    std::filesystem::path target = std::filesystem::read_symlink(entry.path(), error);
    const std::string name = target.filename().string();
    if (!error && (name.ends_with(".spool") || name.ends_with(".spool.new"))) return target;
  }
  return {};
}

// Until `text` is in the spool. Where only the last mark of this thread has it, all that the thread
// recorded before is there too; where it is a string that was registered last, all of that is being
// written.
inline void until_written(const std::string& text) {
  static std::streamoff seen = 0;  // what is recorded now is written after that
  for (auto spool = own_spool(); !spool.empty(); spool = own_spool()) {
    std::ifstream file(spool, std::ios::binary);
    file.seekg(seen);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    if (bytes.find(text) != std::string::npos) {
      seen += static_cast<std::streamoff>(bytes.size());
      return;
    }
    usleep(1000);
  }
}

}  // namespace preserve::test
