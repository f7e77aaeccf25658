// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/growing_array.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "common/error.h"
#include "profiler/gpu/temporary_file.h"

namespace preserve::cuda {
namespace {

constexpr size_t kMostInMemory = size_t{8} << 20;
constexpr size_t kFileStep = size_t{64} << 20;

}  // namespace

SpilledBytes::~SpilledBytes() {
  if (file_ == nullptr) {
    std::free(data_);
    return;
  }
  ::munmap(data_, bytes_);
  std::fclose(file_);
}

void* SpilledBytes::grow(size_t bytes) {
  if (file_ == nullptr && bytes <= kMostInMemory) {
    const size_t room = std::min(kMostInMemory, std::max({bytes, 2 * bytes_, size_t{4096}}));
    void* data = std::realloc(data_, room);
    if (data == nullptr) throw std::bad_alloc();
    bytes_ = room;
    return data_ = data;
  }
  const size_t room = (bytes + kFileStep - 1) / kFileStep * kFileStep;
  std::FILE* file = file_ != nullptr ? file_ : gpu::unnamed_temporary_file();
  // Room that is only promised would end the program where the disk is full.
  int error = ::posix_fallocate(::fileno(file), 0, static_cast<off_t>(room));
  void* data = MAP_FAILED;
  if (error == 0) {
    data = file_ != nullptr
               ? ::mremap(data_, bytes_, room, MREMAP_MAYMOVE)
               : ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_SHARED, ::fileno(file), 0);
    error = errno;
  }
  if (data == MAP_FAILED) {
    if (file_ == nullptr) std::fclose(file);
    throw input_error("cannot make a temporary file of {} MB: {}", room >> 20,
                      std::strerror(error));
  }
  if (file_ == nullptr) {
    if (bytes_ > 0) std::memcpy(data, data_, bytes_);
    std::free(data_);
    file_ = file;
  }
  bytes_ = room;
  return data_ = data;
}

void SpilledBytes::forget() const {
  if (file_ != nullptr) ::madvise(data_, bytes_, MADV_DONTNEED);
}

}  // namespace preserve::cuda
