// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr SweepKind kKind{"grid", "is not a grid"};
constexpr const char* kCellFolder = "cell-";

void require_cells(const TraceDb& db, const std::vector<GridCell>& there,
                   const std::vector<GridCell>& wanted) {
  const bool same = std::ranges::equal(there, wanted, [](const GridCell& a, const GridCell& b) {
    return a.id == b.id && a.key == b.key;
  });
  if (!same) {
    throw input_error("{}: its cells are not those of its selection: pass -f to begin anew",
                      db.file());
  }
}

// In a folder that existed before, only what a cell left over is touched.
void remove_left_overs(const fs::path& folder) {
  std::error_code ignored;  // what stays does no harm
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().rfind(kCellFolder, 0) == 0) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

}  // namespace

GridFile::GridFile(const fs::path& path, const SweepIdentity& identity,
                   const std::vector<GridCell>& cells, bool anew) {
  std::error_code error;
  resumed_ = !anew && fs::exists(path, error);
  db_.emplace(open_sweep(path, kKind, identity, anew, [&](TraceDb& db) {
    for (const GridCell& cell : cells) insert_cell(db, cell);
  }));
  cells_ = read_cells(*db_);
  require_cells(*db_, cells_, cells);
}

size_t GridFile::place_of(int64_t id) const {
  const auto place = std::ranges::find(cells_, id, &GridCell::id);
  if (place == cells_.end()) throw internal_error("no cell {} in the grid", id);
  return static_cast<size_t>(place - cells_.begin());
}

const GridCell& GridFile::cell(int64_t id) const {
  return cells_[place_of(id)];
}

void GridFile::require_same_place(const MeasuredOn& where) const {
  const MeasuredOn before{db_->meta("device_name"), db_->meta("executor")};
  if (before.device.empty() || before == where) return;
  throw input_error(
      "{}: was measured on {} (executor {}), this cell on {} (executor {}): a grid is of one "
      "device, so begin another file",
      db_->file(), printable(before.device), printable(before.executor), printable(where.device),
      printable(where.executor));
}

void GridFile::record(const CellRun& run) {
  if (run.where) require_same_place(*run.where);
  cells_[place_of(run.cell.id)] = run.cell;
  const bool all = std::ranges::none_of(
      cells_, [](const GridCell& cell) { return cell.status == CellStatus::pending; });
  db_->transaction([&] {
    update_cell(*db_, run.cell);
    if (run.where) {
      db_->set_meta("device_name", run.where->device);
      db_->set_meta("executor", run.where->executor);
    }
    if (all) db_->set_meta("incomplete", "0");
  });
}

GridWorkFolder::GridWorkFolder(const fs::path& grid) : path_(grid.string() + ".work") {
  if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) {
    throw usage_error("cannot make {}: {}", path_.string(), std::strerror(errno));
  }
  handle_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (handle_ < 0) {
    throw usage_error("cannot use {}: {}", path_.string(), std::strerror(errno));
  }
  if (::flock(handle_, LOCK_EX | LOCK_NB) != 0) {
    ::close(handle_);
    throw usage_error("another preserve-replay --grid is at work on {}", grid.string());
  }
  remove_left_overs(path_);
}

GridWorkFolder::~GridWorkFolder() {
  remove_left_overs(path_);
  ::rmdir(path_.c_str());  // fails, as it should, when it holds other files
  ::close(handle_);
}

}  // namespace preserve
