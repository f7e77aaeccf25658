// SPDX-License-Identifier: Apache-2.0
// Small foreign traces, written as text or as SQLite, and what the importer makes of them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/import/import.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

// Writes `text` to `name` in the directory and returns the path.
std::filesystem::path write_text(const TemporaryDirectory& directory, const char* name,
                                 const std::string& text);
// The same, compressed.
std::filesystem::path write_gzip(const TemporaryDirectory& directory, const char* name,
                                 const std::string& text);
std::filesystem::path write_zstd(const TemporaryDirectory& directory, const char* name,
                                 const std::string& text);
// Runs SQL statements on a new database.
std::filesystem::path write_sqlite(const TemporaryDirectory& directory, const char* name,
                                   const std::string& sql);

// Imports into a new trace.db in the directory and opens it.
struct Imported {
  import::ImportSummary summary;
  TraceDb db;
  std::vector<std::string> rows(const std::string& sql) const { return test::rows(db, sql); }
};
Imported import_files(const TemporaryDirectory& directory,
                      const std::vector<std::filesystem::path>& files, bool partial = false,
                      const import::ComparisonLimits& limits = {});

// One Kineto event; `rest` is appended inside the object (", \"args\": {...}").
std::string kineto_event(const std::string& category, const std::string& name, double start_us,
                         double dur_us, int thread, const std::string& arguments = "");
std::string kineto_kernel(const std::string& name, double start_us, double dur_us, int stream,
                          int correlation, const std::string& more = "");
std::string kineto_launch(double start_us, int correlation,
                          const std::string& name = "cudaLaunchKernel");
// A document around events; `head` holds further members with a comma behind each.
std::string kineto_document(const std::vector<std::string>& events, const std::string& head = "");

// Expects that `run` ends in an input_error whose text has `part`.
void expect_refused(const std::function<void()>& run, const std::string& part);

}  // namespace preserve::test
