// SPDX-License-Identifier: Apache-2.0
// Where the spools of a run lie: in $TMPDIR, or next to the output when that has more room; removed
// when their trace is complete, unless the user asked to keep them.
#pragma once

#include <filesystem>

namespace preserve {

class SpoolFolder {
 public:
  // A fresh folder for a run that will write `output`; `near`: beside it, in any case. Throws
  // input_error when none can be made.
  static SpoolFolder temporary(const std::filesystem::path& output, bool near = false);
  // The user's own, created if need be; must hold no spools yet. Stays.
  static SpoolFolder kept(const std::filesystem::path& folder);

  ~SpoolFolder();  // removes a temporary folder that is still empty
  SpoolFolder(SpoolFolder&& other) noexcept;
  SpoolFolder& operator=(SpoolFolder&&) = delete;
  SpoolFolder(const SpoolFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }  // absolute
  void remove();                                               // unless it is the user's own

 private:
  SpoolFolder(std::filesystem::path path, bool temporary)
      : path_(std::move(path)), temporary_(temporary) {}
  std::filesystem::path path_;
  bool temporary_;
};

}  // namespace preserve
