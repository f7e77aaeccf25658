// SPDX-License-Identifier: Apache-2.0
#include "apply/library/own_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "common/clock.h"

namespace preserve::apply {
namespace {

void host_name(char (&name)[64]) {
  if (::gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') std::strcpy(name, "host");
  for (char* c = name; *c != '\0'; ++c) {
    if (*c == '/') *c = '_';
  }
}

}  // namespace

std::span<const std::byte> map_plan(const char* path) {
  const int file = ::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return {};
  struct stat status {};
  std::span<const std::byte> mapped;
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    const auto bytes = static_cast<size_t>(status.st_size);
    void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (memory != MAP_FAILED) mapped = {static_cast<const std::byte*>(memory), bytes};
  }
  ::close(file);
  return mapped;
}

void* map_file(const char* path, size_t bytes, bool keep) {
  const int file =
      ::open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (keep ? 0 : O_TRUNC), 0600);
  if (file < 0) return nullptr;
  void* memory = MAP_FAILED;
  if (::posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
  }
  ::close(file);
  return memory == MAP_FAILED ? nullptr : memory;
}

void* map_own(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void name_outcome(char (&path)[PATH_MAX], std::string_view folder, const OutcomeHeader& header) {
  const int length =
      std::snprintf(path, sizeof(path), "%.*s/%s.%u.outcome", static_cast<int>(folder.size()),
                    folder.data(), header.host, header.pid);
  if (length <= 0 || static_cast<size_t>(length) >= sizeof(path)) path[0] = '\0';
}

void* map_outcome(const char* path, size_t bytes, bool keep) {
  void* memory = map_file(path, bytes, keep);
  return memory != nullptr ? memory : map_own(bytes);
}

void describe(OutcomeHeader& header) {
  std::memcpy(header.magic, kOutcomeMagic, sizeof(header.magic));
  header.version = kOutcomeVersion;
  header.header_bytes = sizeof(header);
  header.file_bytes = sizeof(header);
  header.pid = static_cast<uint32_t>(::getpid());
  header.rank = -1;
  header.loaded_ns = monotonic_ns();
  host_name(header.host);
  char program[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length > 0) {
    const auto bytes = static_cast<size_t>(length);
    const size_t kept = bytes < sizeof(header.program) ? bytes : sizeof(header.program) - 1;
    std::memcpy(header.program, program + bytes - kept, kept);
  }
}

}  // namespace preserve::apply
