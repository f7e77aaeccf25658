// SPDX-License-Identifier: Apache-2.0
// A tensor-parallel decoder's recording made from numbers, for tests that need a trace.db without
// running a program. Deterministic. Per layer: norm, qkv, attention core (reads KV), o_proj,
// allreduce, norm, gate_up, down, allreduce; then lm_head and an allgather.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve::test {

struct SyntheticTrace {
  int ranks = 2;
  int layers = 4;
  int steps = 6;
  int64_t qkv_bytes = 1 << 20;      // per layer and rank; o_proj is a third of it
  int64_t gate_up_bytes = 2 << 20;  // per layer and rank; down is half of it
  int64_t kv_bytes = 256 << 10;     // per layer and rank
  int64_t lm_head_bytes = 8 << 20;
  int64_t allreduce_bytes = 2048;
  int64_t allreduce_ns = 10'000;
  double bandwidth_bytes_per_s = 20e9;  // operators last bytes / bandwidth + latency
  int64_t op_latency_ns = 1'000;
  int64_t gap_ns = 200;        // idle time between operators
  bool annotate_steps = true;  // decode_step ranges; without them periodicity must do
  bool name_tensors = true;
  bool collectives = true;
};

// Writes a finished trace.db at `path` (replacing it). `tweak` runs before finish().
void write_synthetic_trace(const std::filesystem::path& path, const SyntheticTrace& spec = {},
                           const std::function<void(TraceDb&)>& tweak = {});
// Open, of a file that is gone.
TraceDb synthetic_trace(const SyntheticTrace& spec = {},
                        const std::function<void(TraceDb&)>& tweak = {});

// A directory of its own, removed with everything in it at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Result of running a program to its end.
struct Run {
  int exit_code = 0;  // 128 + signal when it was killed
  std::string out, err;
};
// argv[0] is looked up in PATH unless it has a slash. `environment` entries are added ("A=b").
Run run_program(const std::vector<std::string>& argv,
                const std::vector<std::string>& environment = {},
                const std::filesystem::path& directory = {}, double timeout_s = 280);

}  // namespace preserve::test
