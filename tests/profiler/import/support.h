// SPDX-License-Identifier: Apache-2.0
// Small foreign traces, written as text or as SQLite, and what the importer makes of them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/import/import.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

// What became of an import, open for asking.
struct Imported {
  import::ImportSummary summary;
  TraceDb db;
  std::vector<std::string> rows(const std::string& sql) const { return test::rows(db, sql); }
  int64_t number(const std::string& sql) const { return db.query_integer(sql).value_or(0); }
  int64_t count(const std::string& from) const { return test::count(db, from); }
  // Kinds and counts in one word.
  std::vector<std::string> losses(const std::string& source = "import") const {
    return rows("SELECT kind || count FROM loss_nonzero WHERE source = '" + source +
                "' ORDER BY kind");
  }
};

// One Kineto event; `rest` is appended inside the object (", \"args\": {...}").
std::string kineto_event(const std::string& category, const std::string& name, double start_us,
                         double dur_us, int thread, const std::string& arguments = "");
std::string kineto_kernel(const std::string& name, double start_us, double dur_us, int stream,
                          int correlation, const std::string& more = "");
std::string kineto_launch(double start_us, int correlation,
                          const std::string& name = "cudaLaunchKernel");
// A document around events; `head` holds further members with a comma behind each.
std::string kineto_document(const std::vector<std::string>& events, const std::string& head = "");
// Such a member: the rank of a file.
std::string kineto_rank(int rank, int world_size);
// What a process is called; `pid` as it stands in the text.
std::string process_name(const std::string& pid, const std::string& name);

class Importing : public testing::Test {
 protected:
  // Writes `text` to `name` in the directory and returns the path.
  std::filesystem::path write_text(const std::string& name, const std::string& text) const;
  // The same, compressed.
  std::filesystem::path write_gzip(const std::string& name, const std::string& text) const;
  std::filesystem::path write_zstd(const std::string& name, const std::string& text) const;
  // Runs SQL statements on a new database.
  std::filesystem::path write_sqlite(const std::string& name, const std::string& sql) const;
  std::filesystem::path write_events(const std::string& name,
                                     const std::vector<std::string>& events,
                                     const std::string& head = "") const {
    return write_text(name, kineto_document(events, head));
  }

  // Imports into a new trace.db in the directory.
  Imported import_files(const std::vector<std::filesystem::path>& files, bool partial = false,
                        const import::ComparisonLimits& limits = {}) const;
  Imported import_text(const std::string& text, bool partial = false) const {
    return import_files({write_text("trace.json", text)}, partial);
  }
  Imported import_events(const std::vector<std::string>& events, const std::string& head = "",
                         bool partial = false) const {
    return import_text(kineto_document(events, head), partial);
  }

  // Expects that the import ends in an input_error whose text has `part`.
  void expect_refused(const std::vector<std::filesystem::path>& files, const std::string& part,
                      bool partial = false) const;
  void expect_text_refused(const std::string& text, const std::string& part) const {
    expect_refused({write_text("trace.json", text)}, part);
  }

  TemporaryDirectory directory_;
};

}  // namespace preserve::test
