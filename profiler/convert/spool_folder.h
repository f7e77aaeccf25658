// SPDX-License-Identifier: Apache-2.0
// Where the spools of a run lie: in $TMPDIR, or beside the output when that has more room; removed
// afterwards unless the user asked to keep them.
#pragma once

#include <filesystem>

namespace preserve {

class SpoolFolder {
 public:
  // A fresh folder for a run that will write `output`. Throws input_error when none can be made.
  static SpoolFolder temporary(const std::filesystem::path& output);
  // The user's own, created if need be; must hold no spools yet. Stays.
  static SpoolFolder kept(const std::filesystem::path& folder);

  ~SpoolFolder();
  SpoolFolder(SpoolFolder&& other) noexcept;
  SpoolFolder& operator=(SpoolFolder&&) = delete;
  SpoolFolder(const SpoolFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }  // absolute
  void keep() { remove_ = false; }                             // after a failure, for another try

 private:
  SpoolFolder(std::filesystem::path path, bool remove) : path_(std::move(path)), remove_(remove) {}
  std::filesystem::path path_;
  bool remove_;
};

}  // namespace preserve
