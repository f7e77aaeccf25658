// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/record_sorter.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

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

}  // namespace preserve::gpu
