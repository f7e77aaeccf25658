// SPDX-License-Identifier: Apache-2.0
// Speed and memory of preserve-profile --import, as the user runs it: process start to finished
// trace.db. Rates are per second of processor time (user and system), because the importer is one
// thread and the machine may be busy; memory is the peak resident set of the process.
//   bench_import [--megabytes N]    N: size of the generated JSON, default 2048
// With PRESERVE_REAL_TRACES, the largest trace in it is measured too, against Python's json module.
#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/bench/measured_child.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace {

namespace fs = std::filesystem;
using namespace preserve;

bench::Cost run(const std::vector<std::string>& arguments) {
  return bench::cost_of([&] {
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    std::_Exit(127);
  });
}

bench::Cost import_file(const fs::path& file, const fs::path& folder) {
  return run({PRESERVE_BIN_DIR "/preserve-profile", "-q", "-f", "--import", file.string(), "-o",
              (folder / "trace.db").string()});
}

// One launch as Kineto writes it: operator with shapes, runtime call, kernel, the two arrow ends.
void append_launch(std::string& text, long index) {
  char buffer[2400];
  const double us = 1e9 + static_cast<double>(index) * 11.5;
  const int length = std::snprintf(buffer, sizeof(buffer),
                                   R"(  {
    "ph": "X", "cat": "cpu_op", "name": "aten::addmm", "pid": 59811, "tid": 59811,
    "ts": %.3f, "dur": 9.500,
    "args": {
      "External id": %ld, "Record function id": 0, "Concrete Inputs": ["", "", "", "1", "1"], "Input type": ["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar", "Scalar"], "Input Strides": [[1], [4096, 1], [1, 4096], [], []], "Input Dims": [[4096], [16, 4096], [4096, 4096], [], []], "Ev Idx": %ld
    }
  },
  {
    "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 59811, "tid": 59811,
    "ts": %.3f, "dur": 3.100,
    "args": {
      "External id": %ld, "cbid": 211, "correlation": %ld
    }
  },
  {
    "ph": "s", "id": %ld, "pid": 59811, "tid": 59811, "ts": %.3f,
    "cat": "ac2g", "name": "ac2g"
  },
  {
    "ph": "X", "cat": "kernel", "name": "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas_%ld", "pid": 0, "tid": 7,
    "ts": %.3f, "dur": 10.123,
    "args": {
      "External id": %ld, "queued": 0, "device": 0, "context": 1, "stream": 7, "correlation": %ld, "registers per thread": 168, "shared memory": 196608, "blocks per SM": 0.242424, "warps per SM": 2.909091, "grid": [32, 1, 1], "block": [384, 1, 1], "est. achieved occupancy %%": 5
    }
  },
  {
    "ph": "f", "id": %ld, "pid": 0, "tid": 7, "ts": %.3f,
    "cat": "ac2g", "name": "ac2g", "bp": "e"
  },
)",
                                   us, index, index, us + 4, index, index, index, us + 4,
                                   index % 40, us + 8, index, index, index, us + 8);
  text.append(buffer, static_cast<size_t>(length));
}

uint64_t generate_json(const fs::path& path, uint64_t bytes) {
  std::ofstream out(path, std::ios::binary);
  std::string text =
      R"({"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", )"
      R"("totalGlobalMem": 85018279936}], "traceEvents": [)"
      "\n";
  uint64_t written = 0;
  for (long index = 1; written + text.size() < bytes; ++index) {
    append_launch(text, index);
    if (text.size() > (1 << 20)) {
      out << text;
      written += text.size();
      text.clear();
    }
  }
  text +=
      "  {\"ph\": \"M\", \"name\": \"process_name\", \"pid\": 59811, \"tid\": 0, \"args\": "
      "{\"name\": \"python3\"}}\n]}\n";
  out << text;
  return written + text.size();
}

// Steps of 200 kernels, a launch for each kernel, a range around every fourth.
int64_t generate_nsys(const fs::path& path, int64_t kernels) {
  sqlite3* db = nullptr;
  sqlite3_open(path.c_str(), &db);
  constexpr int64_t kPid = int64_t{0x0001000001} << 24;
  const std::string sql = fmt::format(
      "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
      "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199) "
      "INSERT INTO StringIds SELECT i, 'nvjet_sm90_tst_' || i FROM n;"
      "INSERT INTO StringIds VALUES (1000, 'layers.1.mlp');"
      "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, "
      "deviceId INTEGER, contextId INTEGER, streamId INTEGER, correlationId INTEGER, "
      "globalPid INTEGER, demangledName INTEGER, shortName INTEGER, gridX INTEGER, gridY INTEGER, "
      "gridZ INTEGER, graphNodeId INTEGER);"
      "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, eventClass INTEGER, "
      "globalTid INTEGER, correlationId INTEGER, nameId INTEGER, returnValue INTEGER);"
      "CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, "
      "globalTid INTEGER, textId INTEGER, domainId INTEGER);"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) "
      "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL SELECT i * 10000 + 6000, i * 10000 + 15500, 0, 1, 7, "
      "i, {1}, i % 200, i % 200, 32, 1, 1, NULL FROM n;"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) "
      "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME SELECT i * 10000, i * 10000 + 3000, 0, {2}, i, 1, 0 "
      "FROM n;"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0} / 4) "
      "INSERT INTO NVTX_EVENTS SELECT i * 40000 - 10, i * 40000 + 35000, 59, NULL, {2}, 1000, 0 "
      "FROM n;",
      kernels, kPid, kPid + 5);
  sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr);
  sqlite3_close(db);
  return 2 * kernels + kernels / 4;
}

// The largest trace of the folder, unpacked; empty when there is none.
fs::path unpack_largest(const fs::path& folder) {
  const char* traces = std::getenv("PRESERVE_REAL_TRACES");
  if (traces == nullptr) return {};
  fs::path largest;
  for (const auto& entry : fs::recursive_directory_iterator(traces)) {
    if (entry.path().extension() != ".gz") continue;
    if (largest.empty() || entry.file_size() > fs::file_size(largest)) largest = entry.path();
  }
  if (largest.empty()) return {};
  const fs::path out = folder / "real.json";
  gzFile in = gzopen(largest.c_str(), "rb");
  std::ofstream file(out, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  for (int got = 0; (got = gzread(in, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;) {
    file.write(buffer.data(), got);
  }
  gzclose(in);
  return out;
}

struct Series {
  std::vector<double> rate, peak_mb;
};

Series measure(const fs::path& file, const fs::path& folder, double amount, int repeats) {
  Series series;
  for (int i = 0; i < repeats; ++i) {
    const bench::Cost cost = import_file(file, folder);
    series.rate.push_back(amount / cost.cpu_s);
    series.peak_mb.push_back(cost.peak_bytes / (1 << 20));
  }
  return series;
}

void report(const std::string& what, const Series& series, const std::string& unit,
            double least_rate, const std::string& target) {
  bench::report_metric("import", what, unit, series.rate, target,
                       median(series.rate) >= least_rate);
  bench::report_metric("import", what + ", peak memory", "MB", series.peak_mb, "at most 200 MB",
                       median(series.peak_mb) <= 200);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t megabytes = 2048;
  if (argc == 3 && std::strcmp(argv[1], "--megabytes") == 0) {
    megabytes = std::strtoull(argv[2], nullptr, 10);
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: bench_import [--megabytes N]\n");
    return 2;
  }
  const test::TemporaryDirectory own;
  const fs::path& folder = own.path();
  constexpr double kMega = 1e6;

  if (const fs::path real = unpack_largest(folder); !real.empty()) {
    const double size_mb = static_cast<double>(fs::file_size(real)) / kMega;
    const Series ours = measure(real, folder, size_mb, 7);
    report("JSON of a real run", ours, "MB/s", 200, "at least 200 MB/s");
    std::vector<double> ratios;
    const std::string script = "import json; json.load(open('" + real.string() + "'))";
    for (const double rate : ours.rate) {
      ratios.push_back(rate * run({"python3", "-c", script}).cpu_s / size_mb);
    }
    bench::report_metric("import", "speed against python3 json.load, same file", "x", ratios,
                         "at least 4x", median(ratios) >= 4);
    fs::remove(real);
  }
  const fs::path generated = folder / "generated.json";
  const double size_mb = static_cast<double>(generate_json(generated, megabytes << 20)) / kMega;
  report("generated JSON of " + std::to_string(megabytes) + " MiB",
         measure(generated, folder, size_mb, 1), "MB/s", 200, "at least 200 MB/s");
  fs::remove(generated);
  const fs::path nsys = folder / "nsys.sqlite";
  const auto rows = static_cast<double>(generate_nsys(nsys, 1'000'000));
  report("rows of an Nsight Systems export", measure(nsys, folder, rows / kMega, 3),
         "million rows/s", 1, "at least 1 million rows/s");
  return 0;
}
