// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/temporary_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/error.h"

namespace preserve::gpu {

std::FILE* unnamed_temporary_file() {
  const char* chosen = std::getenv("TMPDIR");
  const std::string folder = chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
  std::string name = folder + "/preserve-XXXXXX";
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  std::FILE* file = nullptr;
  if (fd >= 0) {
    ::unlink(name.c_str());
    file = ::fdopen(fd, "w+");
  }
  if (file == nullptr) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    throw input_error("{}: cannot make a temporary file there: {}", folder, std::strerror(error));
  }
  return file;
}

namespace {

constexpr int64_t kOnce = 1 << 30;  // Linux moves at most 2 GiB less a page in a call

}  // namespace

void write_at(std::FILE* file, int64_t begin, const void* from, int64_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t part =
        ::pwrite(::fileno(file), at, static_cast<size_t>(std::min(bytes, kOnce)), begin);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0) throw input_error("cannot write a temporary file: {}", std::strerror(errno));
    at += part, begin += part, bytes -= part;
  }
}

void read_at(std::FILE* file, int64_t begin, void* to, int64_t bytes) {
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t part =
        ::pread(::fileno(file), at, static_cast<size_t>(std::min(bytes, kOnce)), begin);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) {
      throw input_error("cannot read back a temporary file: {}",
                        part < 0 ? std::strerror(errno) : "it is shorter than what was written");
    }
    at += part, begin += part, bytes -= part;
  }
}

}  // namespace preserve::gpu
