// SPDX-License-Identifier: Apache-2.0
// Speed of the converter, from spool files to a finished trace.db: a made recording of a decoder
// with nested ranges, collectives and named tensors. One push or pop or MPI call is one record.
#include <filesystem>
#include <string>
#include <vector>

#include "profiler/convert/convert.h"
#include "tests/bench/metric.h"
#include "tests/support/spool_writer.h"
#include "tests/support/synthetic_trace.h"

namespace {

constexpr int kRepetitions = 5;
constexpr int kSteps = 4000;
constexpr int kLayers = 32;
constexpr double kTargetRate = 1e6;

void write_decoder_spool(const std::filesystem::path& path) {
  using preserve::test::SpoolWriter;
  SpoolWriter spool(path);
  const char* modules[] = {"attn.qkv", "attn.core", "attn.o_proj", "mlp.gate_up", "mlp.down"};
  std::vector<std::string> names;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const char* module : modules) {
      names.push_back("layers." + std::to_string(layer) + "." + module);
      spool.region(names.back() + ".weight", 0x10000000 + 0x1000000 * names.size(), 1 << 20, 10);
    }
  }
  int64_t ns = 1000;
  for (int step = 0; step < kSteps; ++step) {
    spool.push("decode_step", ns += 100);
    for (size_t i = 0; i < names.size(); ++i) {
      spool.push(names[i], ns += 50);
      spool.pop(ns += 20'000);
      if (i % 5 == 2 || i % 5 == 4) {
        spool.call(preserve::mpi::kAllreduce, 8192, ns + 100, ns + 15'000);
        ns += 15'000;
      }
    }
    spool.pop(ns += 100);
  }
  spool.finish();
}

}  // namespace

int main() {
  const preserve::test::TemporaryDirectory folder;
  write_decoder_spool(folder / "made.spool");
  std::vector<double> rates;
  for (int i = 0; i < kRepetitions; ++i) {
    std::filesystem::remove(folder / "trace.db");
    preserve::ConvertSummary summary;
    const double took = preserve::bench::seconds_of([&] {
      preserve::TraceDb db = preserve::TraceDb::create(folder / "trace.db");
      summary = preserve::convert_spools({folder / "made.spool"}, db);
      db.finish();
    });
    rates.push_back(static_cast<double>(summary.records) / took);
    std::fprintf(stderr, "%lld records, %lld operators in %.2f s\n",
                 static_cast<long long>(summary.records), static_cast<long long>(summary.operators),
                 took);
  }
  preserve::bench::report_metric("profiler", "spool to trace.db", "records/s", rates,
                                 "at least 1 million", preserve::median(rates) >= kTargetRate);
  return 0;
}
