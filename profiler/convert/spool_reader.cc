// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/spool_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "common/error.h"

namespace preserve {

using namespace spool;

bool SpoolRecord::event(EventBody* body, std::string_view* text, std::string_view* blob) const {
  *body = EventBody{};
  *blob = {};
  if ((head.flags & kHasEvent) == 0) {
    if (tail.size() < head.text_bytes) return false;
    *text = tail.substr(0, head.text_bytes);
    return true;
  }
  if (!split(body, text, blob) || body->blob_bytes > blob->size()) return false;
  *blob = blob->substr(0, body->blob_bytes);
  return true;
}

bool SpoolCursor::next(SpoolRecord* record) {
  while (!rest_.empty()) {
    RecordHeader head{};
    std::memcpy(&head, rest_.data(), std::min(rest_.size(), sizeof(head)));
    const size_t bytes = size_t{head.units} * 8;
    if (rest_.size() < 8 || bytes == 0 || bytes > rest_.size()) break;
    if (head.type == RecordType::pad) {
      rest_.remove_prefix(bytes);
      continue;
    }
    if (bytes < sizeof(head)) break;
    record->head = head;
    record->tail = rest_.substr(sizeof(head), bytes - sizeof(head));
    rest_.remove_prefix(bytes);
    return true;
  }
  damaged_ = !rest_.empty();
  rest_ = {};
  return false;
}

SpoolFileReader::SpoolFileReader(const std::filesystem::path& path) : name_(path.string()) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw input_error("{}: cannot open: {}", name_, std::strerror(errno));
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw input_error("{}: is not a regular file", name_);
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ >= sizeof(FileHeader)) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED) {  // the file may be sound: nobody may count it as damaged
      ::close(fd);
      throw std::bad_alloc();
    }
    data_ = static_cast<const char*>(mapped);
  }
  ::close(fd);
  if (data_ == nullptr) throw input_error("{}: is too short for a spool file", name_);
  try {
    read_header();
    read_chunks();
  } catch (...) {
    ::munmap(const_cast<char*>(data_), size_);
    throw;
  }
}

void SpoolFileReader::looked_at(size_t bytes) const {
  constexpr size_t kMostInMemory = size_t{32} << 20;
  in_memory_ += bytes;
  if (in_memory_ < kMostInMemory) return;
  ::madvise(const_cast<char*>(data_), size_, MADV_DONTNEED);
  in_memory_ = 0;
}

SpoolFileReader::~SpoolFileReader() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

SpoolFileReader::SpoolFileReader(SpoolFileReader&& other) noexcept
    : name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(other.size_),
      header_(other.header_),
      facts_(std::move(other.facts_)),
      chunks_(std::move(other.chunks_)),
      gap_bytes_(other.gap_bytes_),
      torn_(other.torn_) {}

void SpoolFileReader::read_header() {
  std::memcpy(&header_, data_, sizeof(header_));
  if (std::memcmp(header_.magic, kMagic, sizeof(kMagic)) != 0) {
    throw input_error("{}: is not a preserve spool file", name_);
  }
  if (header_.version != kVersion) {
    throw input_error(
        "{}: has spool version {}, this program reads version {}: convert it with the "
        "preserve that recorded it",
        name_, header_.version, kVersion);
  }
  if (header_.header_bytes < sizeof(header_) || header_.header_bytes > size_) {
    throw input_error("{}: its header is damaged or was not written to its end", name_);
  }
  std::string_view text(data_ + sizeof(header_), header_.header_bytes - sizeof(header_));
  while (!text.empty() && text.front() != '\0') {
    const size_t name_end = text.find('\0');
    if (name_end == std::string_view::npos) break;
    const size_t value_end = text.find('\0', name_end + 1);
    if (value_end == std::string_view::npos) break;
    facts_[std::string(text.substr(0, name_end))] =
        text.substr(name_end + 1, value_end - name_end - 1);
    text.remove_prefix(value_end + 1);
  }
}

void SpoolFileReader::read_chunks() {
  constexpr size_t kAround = 65536;  // what the kernel maps around a page that is touched
  size_t at = header_.header_bytes;
  while (at < size_) {
    ChunkHeader head{};
    if (size_ - at < sizeof(head)) break;
    std::memcpy(&head, data_ + at, sizeof(head));
    if (head.magic == kGapMagic) {
      const uint64_t bytes = uint64_t{head.tid} << 32 | head.bytes;
      if (bytes > size_ - at - sizeof(head)) break;
      at += sizeof(head) + bytes;
      gap_bytes_ += bytes;
      continue;
    }
    if (head.magic != kChunkMagic) break;
    at += sizeof(head);
    looked_at(kAround);
    // The last chunk of a killed process is shorter than it says.
    const size_t bytes = std::min<size_t>(head.bytes, size_ - at);
    chunks_.push_back({head.tid, head.ordinal, {data_ + at, bytes}});
    at += bytes;
    if (bytes < head.bytes) {
      torn_ = true;
      return;
    }
  }
  torn_ = at < size_;
}

std::string_view SpoolFileReader::fact(const std::string& key) const {
  const auto found = facts_.find(key);
  return found == facts_.end() ? std::string_view() : found->second;
}

}  // namespace preserve
