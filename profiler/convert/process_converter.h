// SPDX-License-Identifier: Apache-2.0
// One process of a recording -> its rows: process, streams, ranges, operators, communication,
// accesses and losses. Timelines first, then what spans threads, then what was lost. The caller
// keeps everything that is given by reference; the image is used up.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/convert/convert.h"
#include "profiler/convert/cuda/rows.h"
#include "profiler/convert/names.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/tensors.h"
#include "profiler/convert/thread_reader.h"

namespace preserve {

// The tensors that operators of a range touch: its own, or those of the nearest ancestor with any.
struct ModuleOfRange {
  const std::vector<uint32_t>* tensors = nullptr;
  bool own = false;
  bool touched = false;  // by an earlier segment of the same range
};

class ProcessConverter {
 public:
  ProcessConverter(const SpoolFileReader& file, ProcessImage& image, TraceDb& db, Names& names,
                   DeviceId device, const StepOptions& step_options,
                   const gpu::KernelRules& kernel_rules, ConvertSummary& summary)
      : file_(file),
        image_(image),
        db_(db),
        names_(names),
        device_(device),
        step_options_(step_options),
        kernel_rules_(kernel_rules),
        summary_(summary) {}

  void run(const std::function<void(size_t bytes)>& done);

 private:
  void add_process();
  struct Thread {
    std::unique_ptr<ThreadReader> reader;
    StreamId stream;
    RangeId first_range;
    size_t bytes = 0;
  };
  Thread read_thread(uint32_t tid, const std::vector<std::string_view>& chunks);
  void convert_thread(const Thread& thread);
  StreamId add_stream(uint32_t tid, StreamKind kind);
  StreamId async_stream(uint32_t tid);
  RangeId add_ranges(StreamId stream, const ThreadReader& reader);
  void add_operators(StreamId stream, const Timeline& timeline, RangeId first_range);
  void add_collective(OpId op, const TimelineCall& call);
  void add_accesses(OpId op, int64_t start_ns, ModuleOfRange& module);
  int64_t add_access(OpId op, int64_t operand, Tensors::Tensor& tensor, int64_t start_ns,
                     double confidence);
  void keep_loose(const Thread& thread);
  void add_loose();
  void add_background();
  void add_cuda();
  std::string who() const;
  void add_losses();
  void add_loss(const char* source, LossCount& count);

  struct Loose {
    LooseEvent event;
    StreamId stream;
    RangeId around;
    int64_t depth;
  };

  const SpoolFileReader& file_;
  ProcessImage& image_;
  TraceDb& db_;
  Names& names_;
  DeviceId device_;
  const StepOptions& step_options_;
  const gpu::KernelRules& kernel_rules_;
  ConvertSummary& summary_;
  ProcessId process_;
  std::unique_ptr<Tensors> tensors_;
  std::map<uint32_t, StreamId> async_streams_;  // by thread
  std::vector<KnownStep> steps_;
  std::vector<Loose> loose_;
  std::vector<cuda::HostRange> host_ranges_;                // of all threads, in order
  std::vector<TimelineCall> finished_;                      // non-blocking, completed
  std::map<std::pair<uint32_t, int64_t>, RangeId> issued_;  // by thread and start
};

}  // namespace preserve
