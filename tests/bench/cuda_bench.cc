// SPDX-License-Identifier: Apache-2.0
// Speed of the CUDA half of the profiler, on fabricated records of a graph-replayed decode loop:
// CUPTI record -> spool record (inside the profiled process), spool record -> trace.db (offline).
#include <chrono>
#include <cstring>

#include "profiler/convert/cuda/rows.h"
#include "tests/bench/metric.h"
#include "tests/support/synthetic_trace.h"

#ifdef PRESERVE_BENCH_CUPTI
#include <cupti.h>

#include "profiler/collector/cuda/activity.h"
#endif

namespace {

using namespace preserve;

constexpr uint32_t kNodes = 600;  // kernels of one step
constexpr int kKernels = 1'200'000;
constexpr int kRepetitions = 5;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <typename Body>
void add(cuda::RunReader& reader, cuda::RecordType type, const Body& body,
         const cuda::Position& position = {1, 1, 0}, std::string_view text = {}) {
  char tail[sizeof(Body) + 256] = {};
  std::memcpy(tail, &body, sizeof(body));
  if (!text.empty()) std::memcpy(tail + sizeof(body), text.data(), text.size());
  spool::RecordHeader head{};
  head.type = static_cast<spool::RecordType>(type);
  head.text_bytes = static_cast<uint16_t>(text.size());
  reader.add(head, {tail, sizeof(body) + spool::padded(text.size())}, position);
}

// A captured graph of kNodes kernels in 80 layers, replayed; one kernel in seven is a collective.
void record_capture(cuda::RunReader& reader) {
  for (uint32_t name = 1; name <= 7; ++name) {
    add(reader, cuda::RecordType::name, cuda::NameBody{name, 0}, {},
        name == 7 ? "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
                  : "void cutlass::gemm_" + std::to_string(name));
  }
  for (uint32_t node = 0; node < kNodes; ++node) {
    cuda::LaunchBody launch{};
    launch.correlation = node + 1;
    const cuda::Position position{1000 + node, 1, 2 + node % 80};
    add(reader, cuda::RecordType::launch, launch, position);
    cuda::NodeBody created{};
    created.node = 1 + node;
    created.in_launch = 1;
    add(reader, cuda::RecordType::node, created, position);
  }
}

double convert(int64_t& ops) {
  test::TemporaryDirectory folder;
  const auto start = std::chrono::steady_clock::now();
  cuda::RunReader reader;
  record_capture(reader);
  for (int i = 0; i < kKernels; ++i) {
    const auto node = static_cast<uint32_t>(i) % kNodes;
    const auto replay = static_cast<uint32_t>(i) / kNodes;
    const int64_t time_ns = 1'000'000'000 + i * 5'000LL;
    if (node == 0) {
      cuda::LaunchBody launch{};
      launch.kind = cuda::LaunchKind::graph;
      launch.correlation = 10'000 + replay;
      add(reader, cuda::RecordType::launch, launch, {time_ns - 1000, 1, 1});
    }
    cuda::KernelBody kernel{};
    kernel.start_ns = time_ns;
    kernel.end_ns = time_ns + 4'000;
    kernel.place = {0, 1, node % 7 == 6 ? 8u : 7u, 10'000 + replay, 1 + uint64_t{node}, 3, 0};
    kernel.name = 1 + node % 7;
    kernel.grid[0] = kernel.grid[1] = kernel.grid[2] = 4;
    kernel.block[0] = kernel.block[1] = kernel.block[2] = 4;
    add(reader, cuda::RecordType::kernel, kernel);
  }
  TraceDb db = TraceDb::create(folder / "trace.db");
  const ProcessId process = db.add(ProcessRow{"host", 1});
  cuda::GrowingArray<cuda::HostRange> ranges;
  ranges.push_back({db.intern("decode_step"), {}, 0});
  for (int layer = 0; layer < 80; ++layer) {
    ranges.push_back({db.intern("layers." + std::to_string(layer)), {}, 0});
  }
  cuda::Run run = reader.finish();
  const gpu::KernelRules rules;
  const std::vector<cuda::NamedMemory> no_names;
  ops = cuda::write_rows(run, {db, process, "host", ranges, rules, no_names}).ops;
  db.finish();
  return seconds_since(start);
}

#ifdef PRESERVE_BENCH_CUPTI
double decode(size_t& bytes) {
  std::vector<char> buffer(size_t{8} << 20);
  std::vector<CUpti_ActivityKernel10> kernels(20'000);
  std::vector<std::string> names;
  for (int i = 0; i < 64; ++i)
    names.push_back("void cutlass::device_kernel<" + std::string(120, 'x') + std::to_string(i));
  for (size_t i = 0; i < kernels.size(); ++i) {
    kernels[i].kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    kernels[i].start = 1000 + i;
    kernels[i].end = 2000 + i;
    kernels[i].name = names[i % names.size()].c_str();
  }
  const auto start = std::chrono::steady_clock::now();
  cuda::ActivityDecoder decoder(130001);
  size_t at = 0;
  for (int i = 0; i < kKernels; ++i) {
    if (at + cuda::ActivityDecoder::kMaxBytes > buffer.size()) at = 0;
    const size_t written =
        decoder.decode(&kernels[static_cast<size_t>(i) % kernels.size()], &buffer[at]);
    at += written;
    bytes += written;
  }
  return seconds_since(start);
}
#endif

}  // namespace

int main() {
  std::vector<double> rates;
  for (int i = 0; i < kRepetitions; ++i) {
    int64_t ops = 0;
    const double seconds = convert(ops);
    if (ops != kKernels) return 1;
    rates.push_back(static_cast<double>(ops) / seconds);
  }
  bench::report_metric("profiler", "CUDA kernels, spool records to trace.db", "records/s", rates,
                       "at least 1 million records/s", median(rates) >= 1e6);
#ifdef PRESERVE_BENCH_CUPTI
  rates.clear();
  for (int i = 0; i < kRepetitions; ++i) {
    size_t bytes = 0;
    rates.push_back(kKernels / decode(bytes));
  }
  bench::report_metric("profiler", "CUPTI kernel records to spool records", "records/s", rates,
                       "at least 1 million records/s", median(rates) >= 1e6);
#endif
  return 0;
}
