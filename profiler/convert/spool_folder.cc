// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/spool_folder.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"
#include "profiler/convert/convert.h"

namespace preserve {
namespace fs = std::filesystem;

namespace {

// A spool takes some 30 bytes per record; less room than this is worth looking for a better place.
constexpr uintmax_t kComfortableBytes = uintmax_t{1} << 30;

uintmax_t free_bytes(const fs::path& folder) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  return error ? 0 : space.available;
}

}  // namespace

SpoolFolder SpoolFolder::temporary(const fs::path& output, bool near) {
  std::error_code error;
  fs::path place = fs::temp_directory_path(error);  // honours TMPDIR
  const fs::path near_output = fs::absolute(output.has_parent_path() ? output.parent_path() : ".");
  const bool roomier = free_bytes(near_output) > free_bytes(place);
  if (error || near || (free_bytes(place) < kComfortableBytes && roomier)) place = near_output;
  std::string pattern = (fs::absolute(place) / "preserve-spool.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw input_error(
        "cannot create a folder for the recording in {}: {}. Set TMPDIR to a folder "
        "that can be written",
        place.string(), std::strerror(errno));
  }
  // A server that is started as root and becomes another user records too: it may add files, not list
  // those of others.
  if (::geteuid() == 0) (void)::chmod(pattern.c_str(), 01733);
  return {pattern, true};
}

SpoolFolder SpoolFolder::kept(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw usage_error("cannot create {}: {}", folder.string(), error.message());
  if (!spool_files(folder).empty()) {
    throw usage_error("{} holds the spools of another run already: choose another folder",
                      folder.string());
  }
  return {fs::absolute(folder), false};
}

SpoolFolder::SpoolFolder(SpoolFolder&& other) noexcept
    : path_(std::move(other.path_)), temporary_(other.temporary_) {
  other.temporary_ = false;
}

SpoolFolder::~SpoolFolder() {
  if (temporary_) ::rmdir(path_.c_str());
}

void SpoolFolder::remove() {
  if (!temporary_) return;
  std::error_code ignored;  // the trace is complete; what is left of the folder does no harm
  fs::remove_all(path_, ignored);
}

}  // namespace preserve
