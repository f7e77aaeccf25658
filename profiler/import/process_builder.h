// SPDX-License-Identifier: Apache-2.0
// Records of one process -> rows of trace.db. Importers add what they read in any order; finish()
// joins:
//   1. activities with launches by correlation id; several activities of one launch are a graph
//      replay, numbered in order
//   2. launches with the ranges of their thread, by time: innermost range, shapes, module path
//   3. activities into operators, stream by stream in order of start
//   4. operators into rows, once the steps that they belong to are known
// A process that ran kernels on several GPUs becomes one process of trace.db per GPU: what runs on
// one GPU hides nothing of another.
// Ranges of frameworks are only kept when something was launched inside; annotations always.
// Memory is bounded by the sorters whatever the file's size.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "db/step/annotations.h"
#include "db/trace_db.h"
#include "profiler/gpu/kernel_rules.h"
#include "profiler/gpu/launch_join.h"
#include "profiler/gpu/record_log.h"
#include "profiler/gpu/record_sorter.h"
#include "profiler/gpu/records.h"
#include "profiler/gpu/streams.h"
#include "profiler/import/graph_captures.h"
#include "profiler/import/rank_names.h"

namespace preserve::import {

// Times are ns on the file's clock. Trivially copyable, because they are sorted on disk.
struct GpuActivity : gpu::Activity {
  uint32_t communication = 0;  // ProcessBuilder::add_communication(), 0 none
  // Filled by the joins.
  bool launched = false;     // a launch was found
  bool from_replay = false;  // shares its launch with other activities
  uint32_t replay = 0;       // OperandSource::replayed, counted from 1; 0 none
  uint32_t in_replay = 0;    // its number in the replay
  int64_t tokens = 0;        // that the replay works on, 0 unknown
  uint32_t capture = 0;      // no activity: a call of this captured graph, counted from 1
  uint32_t thread = 0;       // of the launch
  int64_t launch_ns = 0;
  uint32_t range = 0;     // row of table range, 0 none
  uint32_t operands = 0;  // OperandTable, 0 none
  uint32_t scope = 0;     // OperandSource::scopes: module path around the launch
  uint32_t op_name = 0;   // row of table string: operator that has the operands
};

// What a thread did to capture a graph.
struct CaptureCall {
  enum What : uint8_t { begins, launches, copies, ends };
  int64_t start_ns = 0, end_ns = 0;
  uint32_t thread = 0;
  uint32_t kernel = 0;  // row of table string, 0 not named
  What what = launches;
};

struct Launch {
  int64_t correlation = 0;
  int64_t start_ns = 0;
  uint32_t thread = 0;
};

enum class RangeClass : uint8_t { annotation, module, op };

struct HostRange {
  int64_t start_ns = 0, end_ns = 0;
  uint32_t thread = 0;
  uint32_t name = 0;
  uint32_t domain = 0;  // row of table string, 0 default
  uint32_t operands = 0;
  uint32_t communication = 0;  // of the operator: kernels launched inside carry it out
  uint32_t call = 0;           // of a library: paired with kernels by order (gpu/call_pairing.h)
  RangeClass range_class = RangeClass::annotation;
  bool open = false;  // the recording ended inside
  bool nests = true;  // false: NVTX start/end, which need not
};

// An operator whose operands are worth naming, in the order it ran; input of access_rows.h.
struct OperandUse {
  int64_t start_ns = 0, dur_ns = 0;
  int64_t op = 0;
  uint32_t name = 0;  // row of table string
  uint32_t operands = 0, scope = 0;
  uint32_t op_name = 0;  // row of table string: the framework's operator, 0 unknown
  gpu::KernelClass kernel_class = gpu::KernelClass::other;
  uint32_t replay = 0, in_replay = 0;  // as GpuActivity's
  int64_t tokens = 0;
};
struct ByStart {
  bool operator()(const OperandUse& a, const OperandUse& b) const {
    return std::tie(a.start_ns, a.op) < std::tie(b.start_ns, b.op);
  }
};
using OperandUses = gpu::RecordSorter<OperandUse, ByStart>;

// What operands are made of, of all processes of one ProcessBuilder.
struct OperandSource {
  gpu::OperandTable operands{};
  std::vector<std::string> scopes{{}};
  std::vector<ReplayedGraph> replayed{};
  // Lists and paths of captures, as they are numbered here.
  std::map<std::pair<const CapturedGraphs*, uint32_t>, uint32_t> lists{}, paths{};
};

// Everything about one imported process that later steps need.
struct ImportedProcess {
  ProcessId id;
  std::optional<int64_t> rank, world_size;
  RankName rank_name{};      // ProcessBuilder's
  std::string source_file;   // for messages; processes of one file share a clock
  int64_t first_device = 0;  // lowest device number, as the file counts them
  OperandUses uses{};
  std::shared_ptr<OperandSource> source{};
  std::optional<int64_t> bandwidth_bytes_per_s{};
  int64_t activities = 0, kernels = 0, unmatched = 0;
  int64_t shift_ns = 0;  // by which the rows were moved after `uses` was filled
};

inline constexpr uint32_t kNoThread = UINT32_MAX;

class ProcessBuilder {
 public:
  // `losses` counts by kind under source "import"; see add_losses().
  ProcessBuilder(TraceDb& db, const gpu::KernelRules& rules);

  std::map<int64_t, int64_t> communicator_ranks;  // how many each has, where the file says it

  // Facts about the process; may become known at any time before finish().
  ProcessRow row{};
  RankName rank_name{};  // what the file calls its rank
  bool partial = false;  // impossible activities are counted and left out, not refused
  std::map<int64_t, gpu::DeviceFacts> devices;
  std::string source_file;

  uint32_t gpu_stream(int64_t device, int64_t context, int64_t stream) {
    const uint32_t index = streams_.index({device, context, stream});
    if (index >= runs_kernels_.size()) runs_kernels_.resize(index + 1);
    return index;
  }
  uint32_t thread(int64_t process, int64_t thread);
  uint32_t add_communication(gpu::CollectiveFacts facts);
  // Names as rows of table string; what they mean is worked out once, here.
  uint32_t kernel_name(std::string_view name);
  uint32_t range_name(std::string_view name, RangeClass range_class);
  gpu::OperandTable& operands() { return operands_; }

  void add(const GpuActivity& activity) {
    if (!activity.is_copy) runs_kernels_[activity.stream] = true;
    if (activity.name >= shortest_ns_.size()) {
      shortest_ns_.resize(activity.name + size_t{1}, std::numeric_limits<int64_t>::max());
    }
    shortest_ns_[activity.name] =
        std::min(shortest_ns_[activity.name], activity.end_ns - activity.start_ns);
    first_start_ns_ = std::min(first_start_ns_, activity.start_ns);
    last_start_ns_ = std::max(last_start_ns_, activity.start_ns);
    calls_.add(activity);
  }
  void add(const Launch& launch) { calls_.add(launch); }
  void add(const HostRange& range) { ranges_.add(range); }
  void add(const CaptureCall& call) {
    captures_graphs_ = captures_graphs_ || call.what == CaptureCall::begins;
    capture_calls_.add(call);
  }
  bool captures_graphs() const { return captures_graphs_; }
  // Most of what was launched was captured, and never ran.
  bool mostly_captures() const {
    return captures_graphs_ && 2 * activities() < capture_calls_.size();
  }
  size_t activities() const { return calls_.activities(); }
  size_t ranges() const { return ranges_.size(); }
  // Counts a record that did not become a row, under its reason (table loss).
  void lose(const char* kind, int64_t count = 1) { losses_[kind] += count; }
  int64_t lost() const;

  // Writes everything; `base_ns` is added to all times. Call once. One process per GPU that ran
  // kernels, at least one. input_error for an activity that cannot have lasted as long as it says,
  // unless `partial`. Steps are found unless `steps` is null: then mark_steps() has to.
  std::vector<ImportedProcess> finish(int64_t base_ns, StepNames* steps);
  // The graphs that were captured, once; after finish(), or in place of it where the file is of use
  // for nothing else.
  CapturedGraphs take_captures();

 private:
  struct ByLaunch {
    bool operator()(const GpuActivity& a, const GpuActivity& b) const {
      return std::tie(a.thread, a.launch_ns, a.start_ns) <
             std::tie(b.thread, b.launch_ns, b.start_ns);
    }
    bool operator()(const HostRange& a, const HostRange& b) const {  // the outer one first
      return std::tie(a.thread, a.start_ns, b.end_ns, a.range_class) <
             std::tie(b.thread, b.start_ns, a.end_ns, b.range_class);
    }
  };
  struct ByStream {
    bool operator()(const GpuActivity& a, const GpuActivity& b) const {
      return std::tie(a.stream, a.start_ns, a.end_ns) < std::tie(b.stream, b.start_ns, b.end_ns);
    }
  };
  struct ByThread {
    bool operator()(const CaptureCall& a, const CaptureCall& b) const {
      return std::tie(a.thread, a.start_ns, a.what) < std::tie(b.thread, b.start_ns, b.what);
    }
  };
  using LaunchedSorter = gpu::RecordSorter<GpuActivity, ByLaunch>;
  using StreamSorter = gpu::RecordSorter<GpuActivity, ByStream>;

  struct OpenRange {
    HostRange range;
    uint32_t scope = 0;
    uint32_t number = 0;
    bool operands_taken = false;
  };

  bool all_devices_alike() const;
  gpu::DeviceFacts device_facts(int64_t device, bool all_alike) const;
  void add_processes();
  size_t process_of(const GpuActivity& activity) const {
    return process_of_stream_[activity.stream];
  }
  void match_launches(LaunchedSorter& out);
  void number_replay(std::vector<GpuActivity>& group);
  void note_replayed(const std::vector<GpuActivity>& group);
  void list_captured(LaunchedSorter& out);
  void note_captured(const GpuActivity& call, std::vector<OpenRange>& open);
  int64_t tokens_of(const std::vector<OpenRange>& open);
  void place_in_ranges(LaunchedSorter& launched, StreamSorter& out);
  void pair_waiting(StreamSorter& out);
  void locate(GpuActivity& activity, std::vector<OpenRange>& open);
  void open_range(const HostRange& range, std::vector<OpenRange>& open);
  static void close_ranges(const GpuActivity& launched, std::vector<OpenRange>& open);
  RangeId keep_range(const std::vector<OpenRange>& open, size_t process);
  StreamId thread_row(uint32_t thread, size_t process);
  // An operator whose row is not written yet.
  struct WaitingOp {
    gpu::Activity activity;
    uint32_t range = 0;
    OpKind kind = OpKind::other;
    int64_t bytes = -1, communicator = -1;  // of communication; -1 unknown
  };
  class WaitingOps;

  void make_ops(StreamSorter& activities);
  void make_op(GpuActivity activity);
  void write_ops(StepNames* steps);
  void leave_out_impossible(const GpuActivity& activity);
  gpu::CollectiveFacts communication_facts(const GpuActivity& activity,
                                           const gpu::KernelIdentity& identity) const;
  const gpu::KernelIdentity& identity(uint32_t name) const { return identities_.at(name); }
  uint32_t scope_of(const std::string& text);
  void write_losses();

  TraceDb& db_;
  const gpu::KernelRules& rules_;
  int64_t base_ns_ = 0;
  std::vector<ImportedProcess> processes_;
  std::vector<size_t> process_of_stream_;
  std::vector<bool> runs_kernels_;    // by stream
  std::vector<int64_t> shortest_ns_;  // activity, by name
  int64_t first_start_ns_ = std::numeric_limits<int64_t>::max();
  int64_t last_start_ns_ = std::numeric_limits<int64_t>::min();
  std::vector<std::string> scopes_{{}};
  // Of the open ranges those that are written, the outermost first; by process. What is at its end
  // may have been closed.
  struct KeptRange {
    uint32_t number;
    RangeId row;
  };
  std::vector<std::vector<KeptRange>> kept_;
  int64_t first_range_ = 0;  // row
  gpu::LaunchJoin<GpuActivity, Launch> calls_;
  gpu::RecordSorter<HostRange, ByLaunch> ranges_;
  gpu::RecordSorter<CaptureCall, ByThread> capture_calls_;
  bool captures_graphs_ = false, finished_ = false;
  std::vector<CapturedGraph> captured_;
  std::vector<ReplayedGraph> replayed_;
  size_t replayed_nodes_ = 0;
  uint32_t opened_ = 0;                           // ranges so far
  std::unordered_map<uint32_t, int64_t> tokens_;  // by name of a range
  gpu::StreamTable streams_;
  std::vector<StreamId> stream_rows_;
  gpu::RecordLog<WaitingOp> waiting_ops_;
  std::vector<StreamOperators> ops_of_stream_;  // by stream; numbered from 0
  OpId first_op_;
  std::vector<int64_t> threads_;                                  // as the system numbers them
  std::map<std::pair<uint32_t, size_t>, StreamId> thread_rows_;   // by thread and process
  std::map<std::pair<int64_t, int64_t>, uint32_t> thread_index_;  // by process and thread
  std::pair<int64_t, int64_t> last_thread_;
  uint32_t last_thread_index_ = kNoThread;
  std::vector<gpu::CollectiveFacts> communications_{{}};
  std::vector<uint32_t> waiting_calls_;        // of the thread, not paired yet
  std::vector<GpuActivity> waiting_launches_;  // kernels after them
  gpu::OperandTable operands_;
  std::unordered_map<uint32_t, gpu::KernelIdentity> identities_;
  std::unordered_map<uint32_t, std::string> path_names_;  // ranges that are modules or module paths
  std::unordered_map<uint32_t, std::string> functions_;   // ranges that name a collective
  std::unordered_map<uint64_t, uint32_t> graphs_;         // signature of a replay -> graph number
  std::unordered_map<std::string, uint32_t> scope_index_;
  // Collectives seen, by process and communicator.
  std::map<std::pair<size_t, int64_t>, int64_t> sequences_;
  std::map<std::string, int64_t> losses_;
  int64_t dropped_ranges_ = 0;
  int64_t latest_ns_ = INT64_MIN;  // end of the last operator that was written
};

}  // namespace preserve::import
