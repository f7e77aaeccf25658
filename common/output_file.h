// SPDX-License-Identifier: Apache-2.0
// An output that is either there in full or not at all: checked before the work starts, written
// next to its place, renamed when complete, removed when not.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace preserve {

class OutputFile {
 public:
  // Throws usage_error when `path` exists and force is false, when it names a directory or
  // something that is not a regular file, or when its folder cannot be written. Creates nothing yet
  // that the user would see. "-" means standard output.
  OutputFile(std::filesystem::path path, bool force);
  ~OutputFile();  // removes the unfinished file
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  bool is_stdout() const { return path_ == "-"; }
  const std::filesystem::path& path() const { return path_; }
  // Where to write before commit(), in the same folder as path(). Not valid for standard output.
  const std::filesystem::path& temporary_path() const { return temporary_; }

  // Whole text in one go (also for standard output), then commit().
  void write(std::string_view text);
  // Renames temporary_path() to path(). Throws input_error when that fails.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool force_ = false;
  bool committed_ = false;
};

// input_error when an input cannot be read; usage_error when `output` is one, by whatever name: a
// stage never changes its input. Empty names are skipped. Called before an OutputFile is made.
void refuse_input_as_output(const std::filesystem::path& output,
                            const std::vector<std::string>& inputs);

// Whole file as text; input_error naming the file when it cannot be read or is larger than 256 MiB.
std::string read_text_file(const std::filesystem::path& path);
// Lower-case hexadecimal SHA-256 of a file's bytes.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace preserve
