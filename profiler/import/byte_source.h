// SPDX-License-Identifier: Apache-2.0
// First arrow of an import: a file as a stream of bytes, compressed or not. What the bytes are is
// detected from their first bytes, never by the file's name. Damage (a gzip that stops half-way, a
// checksum that does not fit) ends the stream early and is kept as a sentence, because a partial
// import goes on.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

#include "common/no_copy.h"

namespace preserve::import {

class ByteSource : NoCopy {
 public:
  virtual ~ByteSource() = default;
  // Fills up to `size` bytes of `out`; 0 at the end of the stream or where it is damaged.
  virtual size_t read(char* out, size_t size) = 0;
  // What was wrong with the stream, empty when nothing was. Final once read() returned 0.
  const std::string& damage() const { return damage_; }

 protected:
  std::string damage_;
};

// Plain, gzip (also several members in a row) or zstd. input_error when it cannot be opened.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path);

}  // namespace preserve::import
