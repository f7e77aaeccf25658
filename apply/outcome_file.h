// SPDX-License-Identifier: Apache-2.0
// What one process that loaded the library has to say, kept up to date in a file that it maps, so
// that a killed process loses nothing. Named <host>.<pid>.outcome in the plan's folder; native byte
// order: OutcomeHeader, and of an MPI rank WindowOutcome[], TensorOutcome[], StepSample[]. Written
// by apply/library, read by preserve-apply once the process has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace preserve::apply {

inline constexpr char kOutcomeMagic[8] = {'P', 'R', 'S', 'V', 'O', 'U', 'T', '\n'};
inline constexpr uint32_t kOutcomeVersion = 3;

enum class State : uint8_t {
  loaded,     // no MPI_Init seen
  searching,  // the step has not been recognised yet, or not again
  measuring,  // arms alternate
  on,         // FAST: the plan is on, one pair in some is a control
  off         // see `off`
};
inline constexpr std::string_view kStateNames[] = {"loaded", "searching", "measuring", "on", "off"};

// Why nothing is fetched for the rest of the run.
enum class Off : uint8_t {
  none,
  slow,
  same,
  no_gain,           // surely not FAST, whether SAME or SLOW
  undecided,         // AMBG until the deadline
  long_step,         // several over 5x the median, and more of them in fetches than by chance
  disturbed,         // steps with fetches are disturbed more often than those without
  rank_count,        // MPI_COMM_WORLD has another size than the recording
  other_library,     // not Open MPI
  no_progress,       // Open MPI without opal_progress_register
  progress_refused,  // opal_progress_register failed
  ambiguous_step,    // the step's collectives repeat within it: windows cannot be told apart
  nothing_mapped,    // not one byte of the plan was found in memory
  driver_failed,     // a call of the CUDA driver that was added
  driver_old,        // the CUDA driver lacks functions
  graph_changes,     // graphs are updated to others than those they were
  no_callbacks,      // CUPTI is missing, or another tool holds it
  not_convertible,   // the step's collectives cannot be converted, or not on all ranks alike
  other_bits,        // converted, a collective gives other bits
  inserted_call,     // a call in place of the program's failed
  no_idle_core,      // for a thread that fetches
  memory_gone,       // memory that a graph fetches from was freed, and the graph launched again
  copied,            // a graph with nodes of the plan was made a part of another
};
inline constexpr std::string_view kOffNames[] = {
    "",
    "SLOW: the program is slower with the plan",
    "SAME: the plan makes no difference",
    "the plan gains less than 0.5 %",
    "AMBG: no gain was shown in time",
    "steps took over five times the median, spent in prefetches",
    "steps with prefetches are disturbed more often than those without",
    "the program has another number of ranks than the recording",
    "the MPI library is not Open MPI",
    "the MPI library has no progress engine that takes callbacks",
    "the MPI library refused the callback",
    "the collectives of the step repeat within it, so its windows cannot be told apart",
    "no tensor of the plan was found in the program's memory",
    "a call of the CUDA driver failed",
    "the CUDA driver is older than 12.4, or no NVIDIA driver",
    "the program updates its CUDA graphs to others than the recorded one",
    "CUPTI is missing, or another tool holds it",
    "its collectives cannot be converted: they must be blocking allreduces of a basic type and "
    "operation, on one "
    "communicator of all ranks, without messages between ranks, and all ranks on this host under "
    "preserve-apply",
    "converted to non-blocking calls its collectives give other bits",
    "a non-blocking call in place of the program's own failed",
    "no core is idle: two for each rank are needed",
    "the program freed memory that the plan fetches from and launched the same CUDA graph again",
    "the program captured the launch of a CUDA graph of the plan into another graph"};

enum class Arm : uint8_t { original, null, applied };
inline constexpr size_t kArms = 3;

// Why the step was lost from sight, each with its count.
enum class Surprise : uint8_t {
  function,
  bytes,
  type,
  communicator,
  messages,      // point-to-point calls where the recording has none, or the reverse
  other_thread,  // a collective of another thread in between
  count
};
inline constexpr std::string_view kSurpriseNames[] = {"another function", "another size",
                                                      "another type",     "another communicator",
                                                      "other messages",   "another thread"};

// Why a CUDA graph is left as it is.
enum class Refusal : uint8_t {
  none,
  another_step,      // its kernels are no part of the recorded step
  ambiguous,         // they are several parts of it
  no_window,         // nothing is planned beside its kernels
  conditional,       // bodies are graphs of their own, whose parameters cannot be updated
  device_launch,     // it is launched by kernels
  device_updatable,  // nodes that kernels change: no second instantiation, no update
  memory_nodes,      // it allocates memory
  unknown_node,      // of a kind that this version does not know
  unknown_edge,      // its meaning could be lost
  too_large,
  capturing,  // it is launched into another capture
  changing,   // another thread changes it
  no_memory,
  no_module,     // the prefetch kernel is not loaded in its context
  little_cache,  // the GPU, or the share of it that the process sees, has less than the plan needs
  failed,        // a call of the driver
  count
};
inline constexpr std::string_view kRefusalNames[] = {
    "",
    "its kernels are no part of the recorded step, in this order",
    "its kernels are several parts of the recorded step",
    "the plan has no prefetch beside its kernels",
    "it has conditional nodes",
    "it may be launched from the device",
    "it has nodes that are updated from the device",
    "it allocates memory",
    "it has nodes of an unknown kind",
    "it has edges of an unknown kind",
    "it is too large",
    "it is launched into another capture",
    "another thread changed it",
    "there was too little memory for it",
    "the prefetch kernel could not be loaded into its context",
    "its GPU, or the share of one that the process has (MIG), has less cache than the plan counts "
    "on",
    "a call of the driver failed"};

// Of a program with CUDA graphs.
struct GraphCounts {
  uint64_t edited;         // instantiated with nodes of the plan
  uint64_t nodes;          // that were added, in all graphs
  uint64_t missing_bytes;  // per step, whose operands were not found in live memory
  uint64_t unpaired;       // launches whose times were not taken: too many under way
  uint32_t priorities;     // whether nodes have a priority of their own
  uint32_t disables;       // whether the nodes are disabled in arm original, not just switched off
  uint64_t refused[static_cast<size_t>(Refusal::count)];
};

// What an always-valid confidence sequence says of the mean log ratio original / other.
struct Evidence {
  uint64_t pairs;
  double mean, low, high;  // low and high infinite while there are too few pairs
};

struct WindowOutcome {
  uint64_t opened;                        // in arm applied
  uint64_t fetched_bytes, dropped_bytes;  // dropped: the wait ended first, or the tensor was gone
};

enum class TensorState : uint8_t {
  missing,  // never seen
  found,
  unreadable,  // named, but its addresses are not mapped for reading
  gone         // found once, then unregistered, freed or unmapped
};
inline constexpr std::string_view kTensorStateNames[] = {"missing", "found", "unreadable", "gone"};
struct TensorOutcome {
  TensorState state;
  uint8_t reserved[7];
  uint64_t bytes;  // now
};

struct StepSample {
  uint64_t dur_ns;
  uint32_t step;  // counted over all locks of this process, from 0; the same on all ranks
  Arm arm;
  uint8_t counted;  // its pair is part of the evidence
  uint16_t reserved;
};

struct OutcomeHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint32_t pid;
  int32_t rank;  // -1: no MPI_Init seen
  uint32_t ranks;
  uint32_t windows, tensors, sample_capacity;
  uint64_t samples;  // seen; those beyond the capacity are not kept
  State state;
  Off off;
  uint8_t ended;                             // MPI_Finalize or MPI_Abort was called
  uint8_t followed;                          // its arms are switched by another rank of this host
  uint32_t off_step;                         // the step from which on it was off or on
  int64_t loaded_ns, locked_ns, decided_ns;  // CLOCK_MONOTONIC; 0: not yet
  uint64_t collectives;                      // seen
  uint64_t undescribed;                      // other MPI calls that the hooks do not follow
  uint64_t locks;
  uint64_t surprises[static_cast<size_t>(Surprise::count)];
  uint64_t steps[kArms];      // whole ones under a lock
  uint64_t disturbed[kArms];  // of these, over twice the upper quartile: their pairs do not count
  uint64_t fetched_bytes, dropped_bytes, turns;  // of the progress engine with a window open
  double fetch_ns;                               // in these turns
  uint8_t via;                                   // plan_file.h; that was chosen
  uint8_t reserved[7];
  double blocking_ns, converted_ns;  // the step's collectives with a window; 0: not compared
  Evidence null, applied, control;   // control: of applied, since the verdict FAST
  char host[64];
  char program[256];  // what was executed, cut at the front where it is too long
  char library[128];  // first line of MPI_Get_library_version
  GraphCounts graphs;
};
static_assert(sizeof(WindowOutcome) == 24 && sizeof(TensorOutcome) == 16 &&
              sizeof(StepSample) == 16 && sizeof(OutcomeHeader) == 984);

inline size_t outcome_bytes(uint32_t windows, uint32_t tensors, uint32_t samples) {
  return sizeof(OutcomeHeader) + size_t{windows} * sizeof(WindowOutcome) +
         size_t{tensors} * sizeof(TensorOutcome) + size_t{samples} * sizeof(StepSample);
}

inline std::string_view cut_at_zero(const char* text, size_t room) {
  return {text, ::strnlen(text, room)};
}

// An outcome in memory that somebody else keeps, checked as a foreign file.
class OutcomeView {
 public:
  // nullptr when all is well, else what is wrong.
  const char* open(std::span<const std::byte> file) {
    if (file.size() < sizeof(OutcomeHeader)) return "shorter than its header";
    std::memcpy(&header_, file.data(), sizeof(header_));
    if (std::memcmp(header_.magic, kOutcomeMagic, sizeof(kOutcomeMagic)) != 0) {
      return "not an outcome";
    }
    if (header_.version != kOutcomeVersion) return "of another version";
    if (header_.header_bytes != sizeof(OutcomeHeader)) return "its header has another size";
    constexpr uint32_t kMost = 1 << 24;
    if (header_.windows > kMost || header_.tensors > kMost || header_.sample_capacity > kMost ||
        outcome_bytes(header_.windows, header_.tensors, header_.sample_capacity) != file.size() ||
        header_.file_bytes != file.size()) {
      return "cut, or longer than it says";
    }
    if (header_.via > 2) return "a value is unknown";
    if (header_.state > State::off || header_.off > Off::copied) return "a value is unknown";
    const std::byte* at = file.data() + sizeof(OutcomeHeader);
    if (reinterpret_cast<uintptr_t>(at) % alignof(WindowOutcome) != 0) return "not aligned";
    windows_ = {reinterpret_cast<const WindowOutcome*>(at), header_.windows};
    at += windows_.size_bytes();
    tensors_ = {reinterpret_cast<const TensorOutcome*>(at), header_.tensors};
    at += tensors_.size_bytes();
    const uint64_t kept =
        header_.samples < header_.sample_capacity ? header_.samples : header_.sample_capacity;
    samples_ = {reinterpret_cast<const StepSample*>(at), static_cast<size_t>(kept)};
    for (const TensorOutcome& tensor : tensors_) {
      if (tensor.state > TensorState::gone) return "a tensor's state is unknown";
    }
    for (const StepSample& sample : samples_) {
      if (static_cast<size_t>(sample.arm) >= kArms) return "a sample's arm is unknown";
    }
    return nullptr;
  }

  const OutcomeHeader& header() const { return header_; }
  std::span<const WindowOutcome> windows() const { return windows_; }
  std::span<const TensorOutcome> tensors() const { return tensors_; }
  std::span<const StepSample> samples() const { return samples_; }
  std::string_view host() const { return cut_at_zero(header_.host, sizeof(header_.host)); }
  std::string_view program() const { return cut_at_zero(header_.program, sizeof(header_.program)); }
  std::string_view library() const { return cut_at_zero(header_.library, sizeof(header_.library)); }

 private:
  OutcomeHeader header_{};
  std::span<const WindowOutcome> windows_;
  std::span<const TensorOutcome> tensors_;
  std::span<const StepSample> samples_;
};

}  // namespace preserve::apply
