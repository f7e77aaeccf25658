// SPDX-License-Identifier: Apache-2.0
#include "tests/profiler/import/support.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>
#include <stdexcept>

#include "tests/support/errors.h"

namespace preserve::test {

std::filesystem::path Importing::write_text(const std::string& name,
                                            const std::string& text) const {
  auto path = directory_.path() / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::filesystem::path Importing::write_gzip(const std::string& name,
                                            const std::string& text) const {
  auto path = directory_.path() / name;
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return path;
}

std::filesystem::path Importing::write_zstd(const std::string& name,
                                            const std::string& text) const {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return write_text(name, packed);
}

std::filesystem::path Importing::write_sqlite(const std::string& name,
                                              const std::string& sql) const {
  auto path = directory_.path() / name;
  sqlite3* handle = nullptr;
  sqlite3_open(path.c_str(), &handle);
  char* message = nullptr;
  const std::string at_once = "PRAGMA synchronous = OFF; BEGIN;" + sql + "COMMIT;";
  if (sqlite3_exec(handle, at_once.c_str(), nullptr, nullptr, &message) != SQLITE_OK) {
    const std::string why = message;
    sqlite3_free(message);
    sqlite3_close(handle);
    throw std::runtime_error(why);
  }
  sqlite3_close(handle);
  return path;
}

Imported Importing::import_files(const std::vector<std::filesystem::path>& files, bool partial,
                                 const import::ComparisonLimits& limits) const {
  const auto path = directory_ / "imported.db";
  std::filesystem::remove(path);
  import::ImportSummary summary;
  {
    TraceDb db = TraceDb::create(path);
    summary = import::import_traces({.files = files, .partial = partial, .limits = limits}, db);
    db.finish();
  }
  return {std::move(summary), TraceDb::open(path)};
}

void Importing::expect_refused(const std::vector<std::filesystem::path>& files,
                               const std::string& part, bool partial) const {
  EXPECT_THAT([&] { import_files(files, partial); },
              fails_with(ErrorKind::input, testing::HasSubstr(part)));
}

std::string kineto_event(const std::string& category, const std::string& name, double start_us,
                         double dur_us, int thread, const std::string& arguments) {
  return fmt::format(
      R"({{"ph": "X", "cat": "{}", "name": "{}", "pid": 7, "tid": {}, "ts": {:.3f}, "dur": {:.3f}, "args": {{{}}}}})",
      category, name, thread, start_us, dur_us, arguments);
}

std::string kineto_kernel(const std::string& name, double start_us, double dur_us, int stream,
                          int correlation, const std::string& more) {
  return kineto_event("kernel", name, start_us, dur_us, stream,
                      fmt::format(R"("device": 0, "context": 1, "stream": {}, "correlation": {}{})",
                                  stream, correlation, more));
}

std::string kineto_launch(double start_us, int correlation, const std::string& name) {
  return kineto_event("cuda_runtime", name, start_us, 2, 70,
                      fmt::format(R"("cbid": 211, "correlation": {})", correlation));
}

std::string kineto_rank(int rank, int world_size) {
  return fmt::format(R"("distributedInfo": {{"rank": {}, "world_size": {}}}, )", rank, world_size);
}

std::string process_name(const std::string& pid, const std::string& name) {
  return fmt::format(
      R"({{"ph": "M", "pid": {}, "name": "process_name", "args": {{"name": "{}"}}}})", pid, name);
}

std::string kineto_document(const std::vector<std::string>& events, const std::string& head) {
  return fmt::format("{{\"schemaVersion\": 1, {}\"traceEvents\": [\n{}\n]}}\n", head,
                     fmt::join(events, ",\n"));
}

}  // namespace preserve::test
