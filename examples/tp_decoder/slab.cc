// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/slab.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>

#include "examples/tp_decoder/error.h"

namespace tp_decoder {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = 2 << 20;

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

Slab::~Slab() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

void Slab::reserve(std::string name, int64_t floats, float** where) {
  regions_.push_back({std::move(name), nullptr, static_cast<size_t>(floats) * sizeof(float)});
  pointers_.push_back(where);
  bytes_ += round_up(floats * static_cast<int64_t>(sizeof(float)), kPage);
}

void Slab::allocate() {
  mapping_bytes_ = static_cast<size_t>(bytes_ + kHugePage);  // room to align the start
  void* mapped = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(fmt::format("cannot allocate {} bytes: {}", bytes_, std::strerror(errno)));
  }
  mapping_ = mapped;
  const auto address = reinterpret_cast<int64_t>(mapped);
  base_ = static_cast<char*>(mapped) + (round_up(address, kHugePage) - address);
  // Decoding streams every weight once per step, so each 4 KiB page would cost a page walk, and
  // hardware prefetchers stop at the page's end. Pages of 2 MiB remove both; real engines get them
  // from their allocator. Advice only: where the system refuses, the decoder is merely slower.
  madvise(base_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
  char* next = static_cast<char*>(base_);
  for (size_t i = 0; i < regions_.size(); ++i) {
    regions_[i].base = next;
    *pointers_[i] = reinterpret_cast<float*>(next);
    next += round_up(static_cast<int64_t>(regions_[i].bytes), kPage);
  }
}

int64_t available_memory_bytes() {
  int64_t available = -1;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key; meminfo >> key;) {
    if (key == "MemAvailable:" && meminfo >> available) {
      available *= 1024;  // the file counts in KiB
      break;
    }
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  if (available < 0)
    throw Error("/proc/meminfo has no MemAvailable: cannot tell what memory is free");
  // A container's limit, cgroup version 2 or 1. Without one the file says "max", which does not
  // parse, or a number above all memory.
  const char* const limits[][2] = {{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
                                   {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                    "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& files : limits) {
    int64_t limit = 0, used = 0;
    if (std::ifstream(files[0]) >> limit && std::ifstream(files[1]) >> used) {
      available = std::min(available, std::max<int64_t>(0, limit - used));
    }
  }
  return available;
}

}  // namespace tp_decoder
