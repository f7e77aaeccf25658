// SPDX-License-Identifier: Apache-2.0
// A trace.db made from CUDA records, open for asking.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "db/step/steps.h"
#include "db/trace_db.h"
#include "profiler/convert/cuda/rows.h"
#include "tests/profiler/convert/cuda/records.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

class Converted : public TraceFile {
 public:
  // Ranges by name, each with the number of its parent (0: none), numbered from 1.
  Converted(CudaRecording& recording,
            const std::vector<std::pair<std::string, uint32_t>>& ranges = {},
            const std::vector<std::tuple<std::string, int64_t, int64_t>>& regions = {}) {
    trace = folder_ / "trace.db";
    TraceDb file = TraceDb::create(trace);
    const ProcessId id =
        file.add(ProcessRow{.host = "host", .pid = 42, .start_ns = 1, .end_ns = 1'000'000'000});
    cuda::GrowingArray<cuda::HostRange> host;
    if (!ranges.empty()) {
      const StreamId thread = file.add(StreamRow{id, {}, StreamKind::thread, 1, ""});
      for (const auto& [name, parent] : ranges) {
        RangeRow row{};
        row.stream = thread;
        row.name = file.intern(name);
        row.depth = parent == 0 ? 0 : host[parent - 1].depth + 1;
        if (parent != 0) row.parent = host[parent - 1].row;
        row.start_ns = 1;
        row.end_ns = 2;
        host.push_back({row.name, {}, parent, file.add(row), row.depth});
      }
    }
    cuda::Run run = recording.reader.finish();
    const gpu::KernelRules rules;
    std::vector<cuda::NamedMemory> memory;
    for (const auto& [name, base, bytes] : regions) {
      TensorRow row{id, file.intern(name), TensorRole::weight, base, bytes, "nvtx_mem"};
      memory.push_back({static_cast<uint64_t>(base), static_cast<uint64_t>(bytes), INT64_MIN,
                        INT64_MAX, file.add(row), TensorRole::weight});
    }
    summary = cuda::write_rows(run, {file, id, "host", host, rules, memory});
    mark_steps(file);
    file.finish();
  }
  // Kinds and counts.
  std::vector<std::string> losses(const std::string& source) const {
    return rows("SELECT kind, count FROM loss WHERE source = '" + source + "' ORDER BY kind");
  }
  // Innermost to outermost range of every operator, in order of time.
  std::vector<std::string> paths() const {
    return rows(
        "SELECT (WITH RECURSIVE up(id, name, parent, depth) AS (  SELECT range.id, string.value, "
        "range.parent_id, range.depth FROM range   JOIN string ON string.id = range.name_id WHERE "
        "range.id = op.range_id   UNION ALL SELECT range.id, string.value, range.parent_id, "
        "range.depth FROM up   JOIN range ON range.id = up.parent JOIN string ON string.id = "
        "range.name_id) SELECT IFNULL(GROUP_CONCAT(name, ' < '), '-') FROM up) FROM op ORDER BY "
        "op.start_ns, op.id");
  }

  cuda::RowSummary summary;

 private:
  TemporaryDirectory folder_;
};

}  // namespace preserve::test
