// SPDX-License-Identifier: Apache-2.0
#include "db/sweep/file.h"

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

std::string meta_name(const SweepKind& kind, const std::string& name) {
  return fmt::format("{}_{}", kind.name, name);
}

TraceDb make(const fs::path& path, const SweepKind& kind, const SweepIdentity& identity,
             const std::function<void(TraceDb&)>& fill) {
  TraceDb db = TraceDb::create(path);
  db.set_meta("kind", kind.name);
  db.set_meta("incomplete", "1");
  for (const auto& [name, value] : identity) db.set_meta(meta_name(kind, name), value);
  if (fill) fill(db);
  return db;
}

void require_identity(const TraceDb& db, const SweepKind& kind, const SweepIdentity& identity) {
  if (db.meta("kind") != kind.name) {
    throw input_error("{}: {}: name another output, or pass -f to replace it", db.file(),
                      kind.other);
  }
  for (const auto& [name, value] : identity) {
    const std::string before = db.meta(meta_name(kind, name));
    if (before == value) continue;
    throw input_error(
        "{}: was begun with {} \"{}\", this command has \"{}\": give the same command to resume, "
        "name another output, or pass -f to begin anew",
        db.file(), name, printable(before), printable(value));
  }
}

}  // namespace

TraceDb open_sweep(const fs::path& path, const SweepKind& kind, const SweepIdentity& identity,
                   bool anew, const std::function<void(TraceDb&)>& fill) {
  if (path.empty()) return make(":memory:", kind, identity, fill);
  std::error_code error;
  if (anew || !fs::exists(path, error)) {
    OutputFile output(path, anew);
    make(output.temporary_path(), kind, identity, fill).finish();
    output.commit();
  }
  TraceDb db = TraceDb::append(path);
  require_identity(db, kind, identity);
  return db;
}

}  // namespace preserve
