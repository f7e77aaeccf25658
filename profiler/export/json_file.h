// SPDX-License-Identifier: Apache-2.0
// A growing JSON file, plain or gzip: text in, bytes out through one buffer. Errors are input_error
// naming the file (a full disk).
#pragma once

#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "common/error.h"
#include "common/no_copy.h"

namespace preserve::exporter {

class JsonFile : NoCopy {
 public:
  JsonFile(const std::filesystem::path& path, bool compress) : path_(path.string()) {
    ::signal(SIGXFSZ, SIG_IGN);  // a file that gets too long fails, and can be spoken of
    // Plain text goes through zlib too. Level 3 takes a third of the time of the default, and makes
    // files 10 % larger.
    const char* mode = compress ? "wb3" : "wbT";
    file_ = path == "-" ? gzdopen(::dup(STDOUT_FILENO), mode) : gzopen(path.c_str(), mode);
    if (file_ == nullptr) fail();
    buffer_.reserve(kFlushBytes + 4096);
  }
  ~JsonFile() {
    if (file_ != nullptr) gzclose(file_);
  }

  std::string& text() {
    if (buffer_.size() >= kFlushBytes) flush();
    return buffer_;
  }
  // Writes what is left; only after this is the file whole.
  void close() {
    flush();
    if (gzclose(std::exchange(file_, nullptr)) != Z_OK) fail();
  }

 private:
  static constexpr size_t kFlushBytes = 256 << 10;
  [[noreturn]] void fail() const {
    throw input_error("{}: cannot write: {}", path_, std::strerror(errno));
  }
  void flush() {
    if (buffer_.empty()) return;
    if (gzwrite(file_, buffer_.data(), static_cast<unsigned>(buffer_.size())) == 0) fail();
    buffer_.clear();
  }

  std::string path_;
  gzFile file_ = nullptr;
  std::string buffer_;
};

}  // namespace preserve::exporter
