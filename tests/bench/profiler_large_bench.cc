// SPDX-License-Identifier: Apache-2.0
// Time and memory of converting a recording that is larger than memory should hold: 20 million
// ranges of a CPU program. An argument gives another number of them. The conversion runs in a
// process of its own, because a process never gives its peak back.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "profiler/convert/convert.h"
#include "profiler/spool.h"
#include "tests/bench/metric.h"
#include "tests/support/synthetic_trace.h"

namespace {

using namespace preserve;

constexpr int64_t kRecords = 20'000'000;
constexpr double kMostBytes = 300e6;

// Like test::SpoolWriter, but writes as it goes.
class LargeSpool {
 public:
  explicit LargeSpool(const std::filesystem::path& path) : out_(path, std::ios::binary) {
    spool::FileHeader head{};
    std::memcpy(head.magic, spool::kMagic, sizeof(head.magic));
    head.version = spool::kVersion;
    head.header_bytes = sizeof(head);
    head.pid = 1;
    head.clock = spool::Clock::monotonic;
    head.start_ticks = 1;
    head.start_ns = 1;
    out_.write(reinterpret_cast<const char*>(&head), sizeof(head));
  }
  void add(spool::RecordType type, int64_t ns, const std::string& text = {}) {
    const size_t padded = spool::padded(text.size());
    const spool::RecordHeader head{static_cast<uint16_t>((sizeof(head) + padded) / 8),
                                   static_cast<uint16_t>(text.size()),
                                   type,
                                   0,
                                   0,
                                   static_cast<uint64_t>(ns)};
    chunk_.append(reinterpret_cast<const char*>(&head), sizeof(head));
    chunk_.append(text);
    chunk_.resize(chunk_.size() + padded - text.size());
    if (chunk_.size() > kChunkBytes) end_chunk(1);
  }
  void finish(int64_t ns) {
    end_chunk(1);
    add(spool::RecordType::trailer, ns);
    end_chunk(0);
  }

 private:
  static constexpr size_t kChunkBytes = size_t{1} << 20;
  void end_chunk(uint32_t tid) {
    const spool::ChunkHeader head{spool::kChunkMagic, tid, static_cast<uint32_t>(chunk_.size()), 0};
    out_.write(reinterpret_cast<const char*>(&head), sizeof(head));
    out_.write(chunk_.data(), static_cast<std::streamsize>(chunk_.size()));
    chunk_.clear();
  }
  std::ofstream out_;
  std::string chunk_;
};

// A decoder of 80 layers, annotated: steps of 801 ranges.
void write_ranges(const std::filesystem::path& path, int64_t ranges) {
  LargeSpool file(path);
  int64_t ns = 1000;
  file.add(spool::RecordType::push, ns, "main");
  for (int64_t i = 1; i < ranges;) {
    file.add(spool::RecordType::push, ns += 100, "decode_step");
    ++i;
    for (int layer = 0; layer < 80 && i < ranges; ++layer) {
      for (const char* module : {"", ".attn", ".attn.qkv", ".attn.core", ".attn.out"}) {
        file.add(spool::RecordType::push, ns += 50, "layers." + std::to_string(layer) + module);
        if (module[0] != 0) file.add(spool::RecordType::pop, ns += 2'000);
        ++i;
      }
      file.add(spool::RecordType::pop, ns += 50);
    }
    file.add(spool::RecordType::pop, ns += 100);
  }
  file.add(spool::RecordType::pop, ns += 100);
  file.finish(ns);
}

struct Cost {
  double seconds = 0, peak_bytes = 0;
};

Cost convert(const std::filesystem::path& spool, const std::filesystem::path& trace) {
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    TraceDb db = TraceDb::create(trace);
    const ConvertSummary summary = convert_spools({spool}, db);
    db.finish();
    std::fprintf(stderr, "%lld ranges, %lld operators, %lld steps\n",
                 static_cast<long long>(summary.ranges), static_cast<long long>(summary.operators),
                 static_cast<long long>(summary.steps.annotated + summary.steps.detected));
    std::_Exit(0);
  }
  int status = 0;
  rusage usage{};
  if (child < 0 || ::wait4(child, &status, 0, &usage) != child || status != 0) std::exit(1);
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          static_cast<double>(usage.ru_maxrss) * 1024};
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t records = argc > 1 ? std::atoll(argv[1]) : kRecords;
  const test::TemporaryDirectory folder;
  write_ranges(folder / "ranges.spool", records);
  const Cost ranges = convert(folder / "ranges.spool", folder / "trace.db");
  const std::string what = std::to_string(records / 1'000'000) + " million ranges to trace.db";
  bench::report_metric("profiler", what, "s", {ranges.seconds}, "", true);
  bench::report_metric("profiler", what + ": peak memory", "MB", {ranges.peak_bytes / 1e6},
                       "at most 300 MB", ranges.peak_bytes <= kMostBytes);
  return 0;
}
