// SPDX-License-Identifier: Apache-2.0
// One process of a recording -> its rows: process, streams, ranges, operators, communication,
// accesses and losses. The records of a thread are read three times (its ranges; what its pieces
// last; its operators) and once more when it has marks, so that memory does not grow with them. The
// caller keeps everything that is given by reference; the image is used up.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "profiler/convert/convert.h"
#include "profiler/convert/cuda/rows.h"
#include "profiler/convert/loose_events.h"
#include "profiler/convert/names.h"
#include "profiler/convert/operators.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/range_rows.h"
#include "profiler/convert/segments.h"
#include "profiler/convert/tensors.h"
#include "profiler/convert/thread_reader.h"
#include "profiler/convert/touches.h"
#include "profiler/gpu/record_sorter.h"

namespace preserve {

class ProcessConverter {
 public:
  ProcessConverter(const SpoolFileReader& file, ProcessImage& image, TraceDb& db, Names& names,
                   DeviceId device, StepNames& step_names, const gpu::KernelRules& kernel_rules,
                   ConvertSummary& summary)
      : file_(file),
        image_(image),
        db_(db),
        names_(names),
        device_(device),
        step_names_(step_names),
        kernel_rules_(kernel_rules),
        summary_(summary) {}

  // How often run() reads what a thread recorded, and is told of each time in `done`.
  static constexpr int kReadings = 3;
  void run(const std::function<void(size_t bytes)>& done);
  // After run().
  ProcessId process() const { return process_; }
  const std::vector<ProcessId>& gpus() const { return gpus_; }  // one_process_per_gpu()
  std::string who() const;

 private:
  void add_process();
  struct Thread {
    uint32_t tid = 0;
    const std::vector<std::string_view>* chunks = nullptr;
    StreamId stream;
    RangeId first_range;
    ThreadShape shape{};
    bool has_loose = false;
  };
  void read_thread(Thread& thread);
  void read_loose(const Thread& thread);
  void convert_thread(Thread& thread);
  StreamId add_stream(uint32_t tid, StreamKind kind);
  StreamId async_stream(uint32_t tid);
  void add_segment(const Thread& thread, const Segment& segment, OperatorRules& rules);
  void add_collective(OpId op, const TimelineCall& call);
  ModuleOfRange& module_of(std::span<SegmentRange> open);
  void add_accesses(OpId op, int64_t start_ns, ModuleOfRange& module);
  void add_touches(OpId op, const Segment& segment);
  int64_t add_access(OpId op, int64_t operand, Tensors::Tensor& tensor, int64_t start_ns,
                     double confidence);
  void add_background();
  void add_cuda();
  void add_touch_cost(const TouchCost& cost);
  void add_losses();
  void add_loss(const char* source, LossCount& count);

  // Non-blocking communication, by the thread and the moment that started it.
  struct Finished {
    TimelineCall call;
    int64_t order;
    bool operator<(const Finished& other) const {
      return std::tie(call.body.tid, call.start_ns, order) <
             std::tie(other.call.body.tid, other.call.start_ns, other.order);
    }
  };
  struct Issued {
    uint32_t tid;
    int64_t start_ns, order;
    RangeId range;
    bool operator<(const Issued& other) const {
      return std::tie(tid, start_ns, order) < std::tie(other.tid, other.start_ns, other.order);
    }
  };

  const SpoolFileReader& file_;
  ProcessImage& image_;
  TraceDb& db_;
  Names& names_;
  DeviceId device_;
  StepNames& step_names_;
  const gpu::KernelRules& kernel_rules_;
  ConvertSummary& summary_;
  ProcessRow row_;
  ProcessId process_;
  std::vector<ProcessId> gpus_;
  std::unique_ptr<Tensors> tensors_;
  std::unique_ptr<Touches> touches_;
  std::map<uint32_t, StreamId> async_streams_;  // by thread
  std::vector<KnownStep> steps_;
  std::vector<bool> range_names_;  // by StringId value
  LooseEvents loose_;
  cuda::GrowingArray<cuda::HostRange>
      host_ranges_;  // of all threads, in order; of a process with CUDA
  gpu::RecordSorter<Finished, std::less<Finished>> finished_;
  gpu::RecordSorter<Issued, std::less<Issued>> issued_;
  std::function<void(size_t bytes)> looked_at_;
};

}  // namespace preserve
