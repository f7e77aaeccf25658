// SPDX-License-Identifier: Apache-2.0
// What memory has no room for lies in a file that has no name any more, in $TMPDIR, else in
// /var/tmp, which unlike /tmp is never memory. Errors (no room for it) are input_error.
#pragma once

#include <cstdint>
#include <cstdio>

namespace preserve::gpu {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// A new one, open for writing and reading.
std::FILE* unnamed_temporary_file();
// All of it, or input_error; past the buffer and the position of `file`.
void write_at(std::FILE* file, int64_t begin, const void* from, int64_t bytes);
void read_at(std::FILE* file, int64_t begin, void* to, int64_t bytes);

}  // namespace preserve::gpu
