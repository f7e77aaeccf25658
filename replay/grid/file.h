// SPDX-License-Identifier: Apache-2.0
// grid.db on its way: made with all cells pending, then one transaction per finished cell, so that
// whatever ends the run costs one cell. The same command resumes where the last one stopped; who it
// belongs to is in its meta.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "common/no_copy.h"
#include "db/grid/cells.h"
#include "db/sweep/file.h"
#include "db/trace_db.h"
#include "replay/grid/cell_run.h"

namespace preserve {

class GridFile {
 public:
  // Opens `path`, or makes it with `cells` when it is missing or `anew` is set. input_error when
  // it is not a grid, or one of another identity: the message names the part that differs.
  // Identity: selection, models, device file, settings, version.
  GridFile(const std::filesystem::path& path, const SweepIdentity& identity,
           const std::vector<GridCell>& cells, bool anew);

  bool resumed() const { return resumed_; }
  const std::vector<GridCell>& cells() const { return cells_; }
  const GridCell& cell(int64_t id) const;
  // Writes the cell in one transaction. input_error when it was measured elsewhere than the others.
  void record(const CellRun& run);

 private:
  size_t place_of(int64_t id) const;
  void require_same_place(const MeasuredOn& where) const;

  bool resumed_ = false;
  std::optional<TraceDb> db_;
  std::vector<GridCell> cells_;
};

// Folder PATH.work for the files of the cell at work, held by one process at a time: usage_error
// when another has it. Left-overs of a killed run are removed.
class GridWorkFolder : NoCopy {
 public:
  explicit GridWorkFolder(const std::filesystem::path& grid);
  ~GridWorkFolder();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int handle_ = -1;
};

}  // namespace preserve
