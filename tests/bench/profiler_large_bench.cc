// SPDX-License-Identifier: Apache-2.0
// Time and memory of converting recordings that are larger than memory should hold: 20 million
// ranges of a CPU program, 20 million kernels that were launched one by one and 20 million of
// replayed graphs. Arguments: another number of them, and which (ranges, kernels, graphs). The
// conversion runs in a process of its own.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "profiler/convert/convert.h"
#include "profiler/cuda_records.h"
#include "profiler/spool.h"
#include "tests/bench/measured_child.h"
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
    add_record(type, ns, text.size(), text, 1);
  }
  // Of CUDA: text and blob follow the body.
  template <typename Body>
  void add(cuda::RecordType type, int64_t ns, const Body& body, const std::string& text = {},
           const std::string& blob = {}, uint32_t tid = 0) {
    std::string tail(reinterpret_cast<const char*>(&body), sizeof(body));
    tail += text;
    tail.resize(spool::padded(tail.size()));
    add_record(static_cast<spool::RecordType>(type), ns, text.size(), tail + blob, tid);
  }
  void finish(int64_t ns) {
    add_record(spool::RecordType::trailer, ns, 0, {}, 0);
    for (uint32_t tid = 0; tid < 2; ++tid) end_chunk(tid);
  }

 private:
  static constexpr size_t kChunkBytes = size_t{1} << 20;
  void add_record(spool::RecordType type, int64_t ns, size_t text_bytes, const std::string& tail,
                  uint32_t tid) {
    std::string& chunk = chunks_[tid];
    const size_t padded = spool::padded(tail.size());
    const spool::RecordHeader head{static_cast<uint16_t>((sizeof(head) + padded) / 8),
                                   static_cast<uint16_t>(text_bytes),
                                   type,
                                   0,
                                   0,
                                   static_cast<uint64_t>(ns)};
    chunk.append(reinterpret_cast<const char*>(&head), sizeof(head));
    chunk.append(tail);
    chunk.resize(chunk.size() + padded - tail.size());
    if (chunk.size() > kChunkBytes) end_chunk(tid);
  }
  void end_chunk(uint32_t tid) {
    std::string& chunk = chunks_[tid];
    const spool::ChunkHeader head{spool::kChunkMagic, tid, static_cast<uint32_t>(chunk.size()), 0};
    out_.write(reinterpret_cast<const char*>(&head), sizeof(head));
    out_.write(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    chunk.clear();
  }
  std::ofstream out_;
  std::string chunks_[2];  // by thread; 0: definitions and GPU activity
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

// Layers of seven kernels with two pointers each, launched one by one inside ranges or as graphs of
// 560. The device runs 2 ms later than the host.
void write_kernels(const std::filesystem::path& path, int64_t kernels, bool graphs) {
  constexpr int64_t kStep = 560;
  LargeSpool file(path);
  file.add(cuda::RecordType::clock, 1, cuda::ClockBody{1, 0, 10, {}, 130101});
  for (uint32_t name = 1; name <= 7; ++name) {
    const std::string text = name == 7 ? "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
                                       : "void cutlass::gemm_" + std::to_string(name);
    file.add(cuda::RecordType::name, 1, cuda::NameBody{name, 0}, text);
    const cuda::ParameterLayout layout[] = {{0, 8}, {8, 8}};
    file.add(cuda::RecordType::function, 1, cuda::FunctionBody{name, 2, 0}, text,
             {reinterpret_cast<const char*>(layout), sizeof(layout)});
  }
  cuda::MemoryBody memory{};
  memory.time_ns = 1;
  memory.address = uint64_t{1} << 32;
  memory.bytes = int64_t{1} << 32;
  file.add(cuda::RecordType::memory, 1, memory);
  int64_t ns = 1'000'000;
  const auto launch = [&](int64_t place, uint32_t correlation) {
    cuda::LaunchBody body{};
    body.function = 1 + static_cast<uint64_t>(place % 7);
    body.correlation = correlation;
    body.parameter_bytes = 16;
    const uint64_t pointers[] = {memory.address + (static_cast<uint64_t>(place) << 20),
                                 memory.address + (static_cast<uint64_t>(place) << 20) + 4096};
    file.add(cuda::RecordType::launch, ns, body, {},
             {reinterpret_cast<const char*>(pointers), sizeof(pointers)}, 1);
  };
  const auto layer = [](int64_t place) { return "layers." + std::to_string(place / 7); };
  if (graphs) {
    for (int64_t place = 0; place < kStep; ++place) {
      if (place % 7 == 0) file.add(spool::RecordType::push, ns += 100, layer(place));
      launch(place, 1 + static_cast<uint32_t>(place));
      cuda::NodeBody node{};
      node.node = 1 + static_cast<uint64_t>(place);
      node.in_launch = 1;
      file.add(cuda::RecordType::node, ns += 100, node, {}, {}, 1);
      if (place % 7 == 6) file.add(spool::RecordType::pop, ns += 100);
    }
  }
  for (int64_t i = 0; i < kernels; ++i) {
    const int64_t place = i % kStep;
    const auto correlation = static_cast<uint32_t>(kStep + 1 + (graphs ? i / kStep : i));
    ns += 2'000;
    if (place == 0) file.add(spool::RecordType::push, ns, "decode_step");
    if (!graphs) {
      if (place % 7 == 0) file.add(spool::RecordType::push, ns + 100, layer(place));
      launch(place, correlation);
      if (place % 7 == 6) file.add(spool::RecordType::pop, ns + 200);
    } else if (place == 0) {
      cuda::LaunchBody body{};
      body.kind = cuda::LaunchKind::graph;
      body.correlation = correlation;
      file.add(cuda::RecordType::launch, ns, body, {}, {}, 1);
    }
    if (place == kStep - 1 || i + 1 == kernels) file.add(spool::RecordType::pop, ns + 300);
    cuda::KernelBody kernel{};
    kernel.start_ns = ns + 2'000'000;
    kernel.end_ns = kernel.start_ns + 1'500;
    kernel.place = {0, 1, place % 7 == 6 ? 8u : 7u, correlation, 0, 0, 0};
    if (graphs) kernel.place.graph_node = 1 + static_cast<uint64_t>(place), kernel.place.graph = 3;
    kernel.name = 1 + static_cast<uint32_t>(place % 7);
    kernel.grid[0] = kernel.grid[1] = kernel.grid[2] = 4;
    kernel.block[0] = kernel.block[1] = kernel.block[2] = 4;
    file.add(cuda::RecordType::kernel, ns, kernel);
  }
  file.finish(ns + 10'000'000);
}

bench::Cost convert(const std::filesystem::path& spool, const std::filesystem::path& trace) {
  return bench::cost_of([&] {
    TraceDb db = TraceDb::create(trace);
    const ConvertSummary summary = convert_spools({spool}, db);
    db.finish();
    std::fprintf(stderr, "%lld ranges, %lld operators, %lld steps\n",
                 static_cast<long long>(summary.ranges), static_cast<long long>(summary.operators),
                 static_cast<long long>(summary.steps.annotated + summary.steps.detected));
  });
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t records = argc > 1 ? std::atoll(argv[1]) : kRecords;
  for (const std::string kind : {"ranges", "kernels", "graphs"}) {
    if (argc > 2 && kind != argv[2]) continue;
    const test::TemporaryDirectory folder;
    if (kind == "ranges") {
      write_ranges(folder / "large.spool", records);
    } else {
      write_kernels(folder / "large.spool", records, kind == "graphs");
    }
    const bench::Cost cost = convert(folder / "large.spool", folder / "trace.db");
    const std::string what = std::to_string(records / 1'000'000) + " million " +
                             (kind == "graphs" ? "kernels of graphs" : kind) + " to trace.db";
    bench::report_metric("profiler", what, "s", {cost.wall_s});
    bench::report_metric("profiler", what + ": peak memory", "MB", {cost.peak_bytes / 1e6},
                         "at most 300 MB", cost.peak_bytes <= kMostBytes);
  }
  return 0;
}
