// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_import.h"

namespace {

// Something for the log's collectives to match with.
constexpr char kTrace[] = R"({"distributedInfo": {"rank": 0, "world_size": 1}, "traceEvents": [
{"ph":"X","cat":"kernel","name":"ncclDevKernel_AllReduce_Sum_f32","ts":1,"dur":5,"args":{"stream":7,"correlation":1}},
{"ph":"X","cat":"kernel","name":"ncclDevKernel_AllGather","ts":9,"dur":5,"args":{"stream":7,"correlation":2}}]})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto trace = preserve::fuzz::input_file("_trace.json");
  static const auto log = preserve::fuzz::input_file(".jsonl");
  preserve::fuzz::write_file(trace, kTrace, sizeof(kTrace) - 1);
  preserve::fuzz::write_file(log, data, size);
  preserve::fuzz::import_one_way({trace, log}, size);
  std::filesystem::remove(trace);
  std::filesystem::remove(log);
  return 0;
}
