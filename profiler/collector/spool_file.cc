// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/spool_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "profiler/collector/foreign_process.h"
#include "profiler/collector/ticks.h"
#include "profiler/spool_name.h"

namespace preserve::collector {
namespace {

constexpr int kMaxFilesPerPid = 1000;  // a process that executes itself again and again
constexpr off_t kPageBytes = 4096;

// The bytes read as zero from now on and take no disk.
bool make_gap(int fd, off_t from, off_t to) {
  return from >= to ||
         ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from) == 0;
}

}  // namespace

bool SpoolFile::create(const char* folder, uint32_t flush_ms, int64_t limit, bool keep_last,
                       int64_t least_free) {
  char host[HOST_NAME_MAX + 1] = "unknown";
  (void)::gethostname(host, sizeof(host) - 1);
  int low = -1;
  for (int n = 0; n < kMaxFilesPerPid && low < 0; ++n) {
    const int length = ::snprintf(path_, sizeof(path_), "%s/%s-%d-%d.spool%s", folder, host,
                                  static_cast<int>(::getpid()), n, spool::kUnwritten);
    if (length <= 0 || static_cast<size_t>(length) >= sizeof(path_)) return false;
    name_bytes_ = static_cast<size_t>(length) - (sizeof(spool::kUnwritten) - 1);
    char name[PATH_MAX];
    memcpy(name, path_, name_bytes_);
    name[name_bytes_] = '\0';
    if (::access(name, F_OK) == 0) continue;
    low = ::open(path_, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (low < 0 && errno != EEXIST) return false;
  }
  if (low < 0) return false;
  fd_ = move_up(low);
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return false;
  device_ = status.st_dev;
  inode_ = status.st_ino;

  facts_ = gather_process_facts(host);  // here: the environment is the program's to change
  const Anchor anchor = take_anchor();
  header_ = {};
  memcpy(header_.magic, spool::kMagic, sizeof(header_.magic));
  header_.version = spool::kVersion;
  header_.header_bytes = static_cast<uint32_t>(sizeof(header_) + facts_.bytes);
  header_.pid = static_cast<uint32_t>(::getpid());
  header_.ppid = static_cast<uint32_t>(::getppid());
  header_.clock = in_tsc_units() ? spool::Clock::tsc : spool::Clock::monotonic;
  header_.flush_ms = flush_ms;
  header_.start_ticks = anchor.ticks;
  header_.start_ns = anchor.ns;
  control_bytes_ = 0;
  end_ = 0;
  limit_ = limit;
  least_free_ = least_free;
  begin_ = middle_ = 0;
  keep_last_ = keep_last && make_gap(fd_, 0, kPageBytes);  // of nothing yet: whether it can
  half_is_full_ = false;
  stuck_ = was_stuck_ = limit_reached_ = disk_was_short_ = false;
  return true;
}

bool SpoolFile::write_header() {
  iovec parts[] = {{&header_, sizeof(header_)}, {facts_.text, facts_.bytes}};
  if (end_ > 0) return true;
  if (!write_all(parts, 2)) return false;
  begin_ = middle_ = end_;
  char name[PATH_MAX];
  memcpy(name, path_, name_bytes_);
  name[name_bytes_] = '\0';
  (void)::rename(path_, name);
  return true;
}

// A program that closes descriptors it does not know (daemons do) may have put a file of its own
// under our number: never write there.
bool SpoolFile::still_ours() {
  if (fd_ < 0) return false;
  struct stat status {};
  if (::fstat(fd_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_)
    return true;
  fd_ = -1;
  return false;
}

// Takes what is written off the parts.
bool SpoolFile::write_all(iovec* parts, int count) {
  stuck_ = true;
  off_t end = end_;
  while (true) {
    while (count > 0 && parts->iov_len == 0) ++parts, --count;
    if (count == 0) break;
    if (!still_ours()) return false;
    const ssize_t written = ::writev(fd_, parts, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      // A part of a chunk that stays would swallow the next one.
      was_stuck_ = true;
      if (::ftruncate(fd_, end_) != 0) close();
      return false;
    }
    end += written;
    for (auto left = static_cast<size_t>(written); left > 0; ++parts, --count) {
      const size_t taken = std::min(left, parts->iov_len);
      left -= taken;
      parts->iov_base = static_cast<char*>(parts->iov_base) + taken;
      parts->iov_len -= taken;
      if (parts->iov_len > 0) break;
    }
  }
  end_ = end;
  stuck_ = false;
  return true;
}

bool SpoolFile::append(Thread thread, const char* first, size_t first_bytes, const char* second,
                       size_t second_bytes) {
  const auto bytes = static_cast<uint32_t>(first_bytes + second_bytes);
  spool::ChunkHeader head{spool::kChunkMagic, thread.tid, bytes, thread.ordinal};
  iovec parts[] = {{&head, sizeof(head)},
                   {const_cast<char*>(first), first_bytes},
                   {const_cast<char*>(second), second_bytes}};
  return write_all(parts, 3);
}

bool SpoolFile::disk_is_short(off_t bytes) const {
  struct statfs disk {};
  if (least_free_ == 0 || ::fstatfs(fd_, &disk) != 0) return false;
  const auto unit = static_cast<off_t>(disk.f_frsize > 0 ? disk.f_frsize : disk.f_bsize);
  return unit > 0 && static_cast<off_t>(disk.f_bavail) < (least_free_ + bytes) / unit;
}

bool SpoolFile::write_chunk(Thread thread, const char* first, size_t first_bytes,
                            const char* second, size_t second_bytes) {
  const auto bytes = static_cast<off_t>(sizeof(spool::ChunkHeader) + first_bytes + second_bytes);
  half_is_full_ = false;
  const off_t room = keep_last_ ? limit_ / 2 - (end_ - middle_) : limit_ - end_;
  if (bytes <= room && disk_is_short(bytes)) {
    stuck_ = disk_was_short_ = true;
    return false;
  }
  if (bytes > room) {
    stuck_ = limit_reached_ = true;
    half_is_full_ = keep_last_ && bytes <= limit_ / 2;
    return false;
  }
  return append(thread, first, first_bytes, second, second_bytes);
}

bool SpoolFile::needs_next_half(size_t bytes) const {
  const auto whole = static_cast<off_t>(sizeof(spool::ChunkHeader) + bytes);
  return keep_last_ && whole > limit_ / 2 - (end_ - middle_) && whole <= limit_ / 2;
}

// Whenever the process is killed meanwhile, the file can be read: a header is written at once, and
// what it stands for is there or is a gap.
bool SpoolFile::next_half(std::string_view definitions, bool* lost) {
  *lost = middle_ > begin_;
  if (*lost) {
    if (!still_ours()) return false;
    ::fcntl(fd_, F_SETFL, O_WRONLY);  // with O_APPEND all would go to the end
    const bool done = give_up(definitions);
    ::fcntl(fd_, F_SETFL, O_WRONLY | O_APPEND);
    ::lseek(fd_, end_, SEEK_SET);
    if (!done) return false;
  }
  middle_ = end_;
  return true;
}

bool SpoolFile::give_up(std::string_view definitions) {
  constexpr auto kHeadBytes = static_cast<off_t>(sizeof(spool::ChunkHeader));
  const auto bytes = static_cast<off_t>(definitions.size());
  const off_t gap = begin_ + (bytes > 0 ? kHeadBytes + bytes : 0);
  if (gap + kHeadBytes > middle_) return false;
  const auto write_gap = [this](off_t at) {
    const auto length = static_cast<uint64_t>(middle_ - at - kHeadBytes);
    const spool::ChunkHeader head{spool::kGapMagic, static_cast<uint32_t>(length >> 32),
                                  static_cast<uint32_t>(length), 0};
    return ::pwrite(fd_, &head, sizeof(head), at) == kHeadBytes;
  };
  const off_t first_page = (begin_ + kHeadBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (!write_gap(begin_) || !make_gap(fd_, first_page, middle_)) return false;
  if (bytes == 0) return true;
  const spool::ChunkHeader head{spool::kChunkMagic, 0, static_cast<uint32_t>(bytes), 0};
  return ::pwrite(fd_, definitions.data(), definitions.size(), begin_ + kHeadBytes) == bytes &&
         write_gap(gap) && ::pwrite(fd_, &head, sizeof(head), begin_) == kHeadBytes;
}

void SpoolFile::add_control(spool::RecordType type, const void* body, size_t bytes, uint64_t ticks,
                            uint8_t flags, std::string_view text) {
  const size_t whole = sizeof(spool::RecordHeader) + bytes + spool::padded(text.size());
  if (control_bytes_ + whole > kControlBytes && !write_control()) return;
  const spool::RecordHeader head{
      static_cast<uint16_t>(whole / 8), static_cast<uint16_t>(text.size()), type, flags, 0, ticks};
  char* out = control_ + control_bytes_;
  memset(out, 0, whole);
  memcpy(out, &head, sizeof(head));
  if (bytes > 0) memcpy(out + sizeof(head), body, bytes);
  if (!text.empty()) memcpy(out + sizeof(head) + bytes, text.data(), text.size());
  control_bytes_ += whole;
}

void SpoolFile::add_anchor() {
  const Anchor anchor = take_anchor();
  const spool::DefinitionBody body{static_cast<uint64_t>(anchor.ns), 0, 0, 0};
  add_control(spool::RecordType::anchor, &body, sizeof(body), anchor.ticks);
}

void SpoolFile::add_trailer() {
  add_control(spool::RecordType::trailer, nullptr, 0, 0,
              static_cast<uint8_t>((was_stuck_ ? spool::kFileWasFull : 0) |
                                   (limit_reached_ ? spool::kLimitReached : 0) |
                                   (disk_was_short_ ? spool::kDiskWasShort : 0)));
}

bool SpoolFile::write_control() {
  if (control_bytes_ == 0) return true;
  if (!append({}, control_, control_bytes_, nullptr, 0)) return false;
  control_bytes_ = 0;
  return true;
}

void SpoolFile::close() {
  if (still_ours()) ::close(fd_);
  fd_ = -1;
}

}  // namespace preserve::collector
