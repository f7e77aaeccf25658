// SPDX-License-Identifier: Apache-2.0
// What the CUDA records of one process say, before anything is joined: first half of spool ->
// trace.db (the other half: join.h, collectives.h, rows.h). Pure: no CUDA, no database, no file.
//
// Activities, launches and waits may be many millions: they lie in files (growing_array.h). In
// memory is what a program has few of: graph nodes, allocations, library calls (about 300 bytes
// each). Times are CLOCK_MONOTONIC ns.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profiler/convert/cuda/growing_array.h"
#include "profiler/convert/spool_reader.h"
#include "profiler/cuda_records.h"
#include "profiler/gpu/records.h"
#include "profiler/gpu/streams.h"
#include "profiler/spool.h"

namespace preserve::cuda {

inline constexpr uint32_t kNone = UINT32_MAX;

// `name` is an index of Run::names.
struct Activity : gpu::Activity {
  uint32_t blocks = 0;  // of the grid
  // Filled by join():
  uint32_t launch = kNone;    // index of Run::launches: the call that made it run
  uint32_t origin = kNone;    // the call that said what it is: of a graph node, the one captured
  uint32_t counters = kNone;  // index of Run::counter_values
};

struct Launch {
  int64_t time_ns = 0;
  uint64_t stream = 0, function = 0;
  uint32_t correlation = 0, outer_correlation = 0;
  uint32_t tid = 0, context = 0;
  uint32_t range = 0;           // the caller's number of the innermost range, 0 none
  uint32_t order = 0;           // position among the records of its thread
  uint32_t parameters = kNone;  // offset in Run::parameters
  uint32_t parameter_bytes = 0;
  LaunchKind kind = LaunchKind::kernel;
  bool parameters_cut = false;
};

struct Node {
  int64_t time_ns = 0;
  uint64_t node = 0, original = 0;
  uint32_t launch = kNone;  // the call it was created in
  NodeEvent event = NodeEvent::created;
};

// A graph made ready to run, and its kernel nodes.
struct Executable {
  int64_t time_ns = 0;
  std::vector<uint64_t> nodes{};
};

// What was counted of one launch: of each kernel in it, in order. -1: not counted.
struct CounterLaunch {
  uint32_t launch = kNone;
  uint32_t device = 0;
  uint32_t total = 0;  // kernels; more than values: for the others there was no room
  int64_t end_ns = 0;
  std::vector<std::array<double, kCounters>> values{};
};

struct CounterSetup {
  CounterSetupBody body{};
  std::string chip{}, why_not{};
};

// The host waited for the device, or a stream for an event of another (wait_name() in rows.cc).
struct Wait {
  int64_t start_ns = 0, end_ns = 0;
  uint32_t type = 0;  // CUpti_ActivitySynchronizationType
  uint32_t context = 0, stream = 0;
};

struct Pools {
  int64_t created = 0, largest_bytes = 0;
};

struct Function {
  uint32_t name = 0;  // index of Run::names
  std::vector<ParameterLayout> layout{};
  bool layout_known = false;
};

struct Allocation {
  int64_t from_ns = 0, to_ns = INT64_MAX;
  uint64_t base = 0;
  int64_t bytes = 0;
};

struct TensorMap {
  int64_t time_ns = 0;
  TensorMapBody body{};
};

// A collective as a library reported it, on the thread that called.
struct LibraryCall : gpu::CollectiveFacts {
  uint32_t tid = 0, order = 0;
  std::string algorithm{}, protocol{};
  bool from_plugin = false;  // else: from an NVTX payload
};

struct Losses {
  int64_t received = 0;         // kernels, copies and fills
  int64_t zero_timestamp = 0;   // of these: CUPTI had no times
  int64_t impossible_time = 0;  // of these: end before start, or not a time
  int64_t dropped = 0;          // by CUPTI, before they reached us
  int64_t discarded_buffers = 0;
  int64_t unreadable = 0, unknown_kind = 0, spool = 0, overwritten = 0;
  int64_t counter_ranges = 0, counter_failed = 0, counter_skipped = 0;  // LossPlace
  int64_t counter_unplaced = 0;  // counters without their launch
  int64_t waits_without_time = 0;
  int64_t damaged = 0;  // records of the spool shorter than their type
};

struct Run {
  GrowingArray<Activity> activities;
  GrowingArray<Launch> launches;
  std::vector<Node> nodes;
  gpu::StreamTable streams;
  std::vector<std::string> names{{}};
  std::map<uint32_t, std::pair<DeviceBody, std::string>> devices;
  std::map<uint64_t, Function> functions;
  GrowingArray<char> parameters;  // bytes of all launches
  std::vector<Allocation> allocations;
  std::vector<TensorMap> tensor_maps;
  std::vector<LibraryCall> calls;
  std::map<uint64_t, uint32_t> communicator_ranks;
  GrowingArray<Wait> waits;
  std::map<uint32_t, int64_t> external_ids;  // records by CUpti_ExternalCorrelationKind
  Pools pools;
  std::vector<GraphBody> graphs;                            // launches recorded as a whole
  std::map<uint64_t, std::vector<Executable>> executables;  // by handle
  std::vector<CounterLaunch> counter_launches;
  std::vector<std::array<double, kCounters>> counter_values;  // of activities
  std::vector<CounterSetup> counter_setups;
  std::map<uint32_t, std::pair<int64_t, int64_t>> overheads;  // kind -> count, ns
  std::vector<std::pair<State, std::string>> states;
  std::vector<std::pair<int64_t, int64_t>> recorded;  // capture ranges, from and to
  uint32_t cupti_version = 0;
  uint32_t oldest_kernel = 0, newest_kernel = 0;  // generations of CUpti_ActivityKernel
  Losses losses;
};

// Next of the NUL-terminated words of a text; what is missing is empty.
std::string next_word(std::string_view& text);

// Where a record stood: its thread, and the innermost range open there (the caller's number).
struct Position {
  int64_t time_ns = 0;
  uint32_t tid = 0;
  uint32_t range = 0;
};

// Takes the records of one spool file, in the order of the file.
class RunReader {
 public:
  // `tail`: everything after the header. Any bytes are safe; what is too short is counted.
  void add(const spool::RecordHeader& head, std::string_view tail, const Position& position);
  // A collective that an NVTX payload of `position`'s thread described.
  void add(LibraryCall call, const Position& position);
  void set_communicator_ranks(uint64_t communicator, uint32_t ranks) {
    run_.communicator_ranks[communicator] = ranks;
  }
  bool has_records() const { return order_ > 0; }
  bool has_activities() const {
    return !run_.activities.empty() || !run_.graphs.empty() || has_counters_;
  }
  // Brings activity times onto CLOCK_MONOTONIC and ends what is still open.
  Run finish();

 private:
  struct ClockPoint {
    int64_t realtime_ns, offset_ns;  // offset: add to get CLOCK_MONOTONIC
  };
  struct MemoryEvent {
    int64_t time_ns;
    uint64_t address;
    int64_t bytes;
    enum Kind : uint8_t { allocate, release, unmap } kind;
    bool on_activity_clock;  // else: seen in a driver call
  };
  struct Record {
    const Position& position;
    std::string_view text{}, blob{};
  };
  template <typename Body>
  void read(const SpoolRecord& from, const Position& position) {
    Body body{};
    Record record{position};
    if (from.split(&body, &record.text, &record.blob)) {
      take(body, record);
    } else {
      ++run_.losses.damaged;
    }
  }
  uint32_t name(uint32_t spool_id);
  uint32_t constant_name(std::string_view text);
  void add_activity(const Place& place, int64_t start_ns, int64_t end_ns, Activity activity);
  void take(const KernelBody& body, const Record& record);
  void take(const CopyBody& body, const Record& record);
  void take(const SynchronizeBody& body, const Record& record);
  void take(const MemoryBody& body, const Record& record);
  void take(const PoolBody& body, const Record& record);
  void take(const OverheadBody& body, const Record& record);
  void take(const ExternalBody& body, const Record& record);
  void take(const GraphBody& body, const Record& record);
  void take(const DeviceBody& body, const Record& record);
  void take(const NameBody& body, const Record& record);
  void take(const LostBody& body, const Record& record);
  void take(const ClockBody& body, const Record& record);
  void take(const StateBody& body, const Record& record);
  void take(const LaunchBody& body, const Record& record);
  void take(const FunctionBody& body, const Record& record);
  void take(const NodeBody& body, const Record& record);
  void take(const MappingBody& body, const Record& record);
  void take(const TensorMapBody& body, const Record& record);
  void take(const CommunicatorBody& body, const Record& record);
  void take(const CollectiveBody& body, const Record& record);
  void take(const CounterSetupBody& body, const Record& record);
  void take(const CounterBody& body, const Record& record);
  void take(const ExecutableBody& body, const Record& record);
  void shift_activity_times();
  void leave_out_graphs_beyond_ranges();
  void build_allocations();

  Run run_;
  std::map<uint32_t, uint32_t> name_index_;  // spool's number -> index of names
  std::unordered_map<std::string_view, uint32_t> text_index_;
  std::deque<std::string> texts_;             // what text_index_ points into
  std::map<uint32_t, uint32_t> last_launch_;  // of each thread
  struct Cloned {
    uint32_t graph = 0;
    std::vector<uint64_t> kernels{};
  };
  std::map<uint32_t, Cloned> cloned_;             // of each thread: the nodes cloned last
  std::unordered_map<uint32_t, size_t> counted_;  // counter_launches by launch, the last of each
  bool has_counters_ = false;
  std::vector<MemoryEvent> memory_;
  std::vector<ClockPoint> clock_points_;
  uint32_t order_ = 0;
};

}  // namespace preserve::cuda
