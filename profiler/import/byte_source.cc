// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "common/error.h"

namespace preserve::import {
namespace {

// Large enough that a system call costs nothing per byte, small enough to stay in the L2 cache.
constexpr size_t kCompressedChunk = 128 << 10;

class PlainBytes : public ByteSource {
 public:
  PlainBytes(int descriptor, std::string file) : descriptor_(descriptor), file_(std::move(file)) {}
  ~PlainBytes() override { ::close(descriptor_); }

  size_t read(char* out, size_t size) override {
    while (true) {
      const ssize_t got = ::read(descriptor_, out, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) throw input_error("{}: cannot read: {}", file_, std::strerror(errno));
    }
  }
  // The bytes that decide the format; the position stays at the start.
  std::array<unsigned char, 4> first_bytes() const {
    std::array<unsigned char, 4> magic{};
    if (::pread(descriptor_, magic.data(), magic.size(), 0) < 0) {
      throw input_error("{}: cannot read: {}", file_, std::strerror(errno));
    }
    return magic;
  }

 private:
  int descriptor_;
  std::string file_;
};

class GzipBytes : public ByteSource {
 public:
  explicit GzipBytes(std::unique_ptr<ByteSource> inner)
      : inner_(std::move(inner)), in_(kCompressedChunk) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw internal_error("zlib cannot start");
  }
  ~GzipBytes() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t size) override {
    if (ended_) return 0;
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(size, 1 << 30));
    const uInt wanted = stream_.avail_out;
    while (stream_.avail_out == wanted) {
      if (stream_.avail_in == 0 && !fill()) break;
      const int code = inflate(&stream_, Z_NO_FLUSH);
      if (code == Z_STREAM_END) {
        member_open_ = false;
        inflateReset(&stream_);
      } else if (code != Z_OK) {
        damage_ =
            member_open_ ? "the gzip data is damaged" : "something else follows the gzip data";
        ended_ = true;
        break;
      } else {
        member_open_ = true;
      }
    }
    return wanted - stream_.avail_out;
  }

 private:
  bool fill() {
    const size_t got = inner_->read(in_.data(), in_.size());
    if (got == 0) {
      if (member_open_) damage_ = "the gzip data stops before its end";
      ended_ = true;
      return false;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(in_.data());
    stream_.avail_in = static_cast<uInt>(got);
    return true;
  }

  std::unique_ptr<ByteSource> inner_;
  std::vector<char> in_;
  z_stream stream_{};
  bool member_open_ = true;
  bool ended_ = false;
};

class ZstdBytes : public ByteSource {
 public:
  explicit ZstdBytes(std::unique_ptr<ByteSource> inner)
      : inner_(std::move(inner)), in_(kCompressedChunk), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) throw internal_error("zstd cannot start");
    // A frame may demand any window; 64 MiB is what the command line tool writes at most unasked.
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, 26);
  }
  ~ZstdBytes() override { ZSTD_freeDStream(stream_); }

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (!ended_ && output.pos == 0) {
      if (input_.pos == input_.size) {
        const size_t got = inner_->read(in_.data(), in_.size());
        if (got == 0) {
          if (frame_open_) damage_ = "the zstd data stops before its end";
          ended_ = true;
          break;
        }
        input_ = {in_.data(), got, 0};
      }
      const size_t code = ZSTD_decompressStream(stream_, &output, &input_);
      if (ZSTD_isError(code)) {
        damage_ = fmt::format("the zstd data is damaged ({})", ZSTD_getErrorName(code));
        ended_ = true;
      }
      frame_open_ = code != 0;
    }
    return output.pos;
  }

 private:
  std::unique_ptr<ByteSource> inner_;
  std::vector<char> in_;
  ZSTD_DStream* stream_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool frame_open_ = true;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw input_error("{}: {}", path.string(), std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) throw input_error("{}: is not a regular file", path.string());
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw input_error("{}: {}", path.string(), std::strerror(errno));
  auto plain = std::make_unique<PlainBytes>(descriptor, path.string());
  const auto magic = plain->first_bytes();
  if (magic[0] == 0x1f && magic[1] == 0x8b) return std::make_unique<GzipBytes>(std::move(plain));
  if (magic[0] == 0x28 && magic[1] == 0xb5 && magic[2] == 0x2f && magic[3] == 0xfd) {
    return std::make_unique<ZstdBytes>(std::move(plain));
  }
  return plain;
}

}  // namespace preserve::import
