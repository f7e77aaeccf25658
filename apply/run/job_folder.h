// SPDX-License-Identifier: Apache-2.0
// Where the launchers of one job on one host and the library in their programs meet: a folder that
// no other user can enter. One launcher before mpirun has it alone; of those behind mpirun or srun,
// one per rank, one reports for all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "common/no_copy.h"
#include "common/private_folder.h"

namespace preserve::apply {

class JobFolder : NoCopy {
 public:
  // In front of mpirun it lies in `shared` where that is given: ranks are on other hosts.
  // input_error when it cannot be made, or belongs to somebody else.
  explicit JobFolder(const std::optional<std::filesystem::path>& shared);
  ~JobFolder();  // gone with the launcher that reports

  const std::filesystem::path& path() const { return path_; }
  // Whether this launcher reports what the ranks of this host did.
  bool reports() const { return reports_; }
  // Until the other launchers of this host have ended or died, or so long.
  void wait_for_others(int64_t limit_ns) const;

 private:
  std::filesystem::path mark() const;

  std::optional<PrivateFolder> own_;  // before mpirun
  std::filesystem::path path_;
  bool reports_ = true;
};

}  // namespace preserve::apply
