// SPDX-License-Identifier: Apache-2.0
// The plan as the library inside a program reads it: what preserve-apply made of a schedule.json,
// without names that would have to be looked up there. One file, native byte order, arrays without
// gaps: PlanHeader, PlanCollective[], PlanWindow[], PlanSlice[], PlanTensor[], text bytes.
// PRESERVE_APPLY_PLAN names the file (an absolute path). Header-only, allocates nothing and throws
// nothing: used on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace preserve::apply {

inline constexpr char kPlanMagic[8] = {'P', 'R', 'S', 'V', 'P', 'L', 'N', '\n'};
inline constexpr uint32_t kPlanVersion = 2;
inline constexpr int64_t kAnyBytes = INT64_MIN;  // of a collective whose ranks differ
inline constexpr uint32_t kMostEntries = 1 << 20, kMostCollectives = 4096;

// Who fetches while a collective is under way.
enum class Via : uint8_t {
  progress,  // the waiting core, from a callback of the MPI library's progress engine
  convert,   // the waiting core, between looks at a non-blocking call in place of the blocking one
  spare,     // a thread on an idle core
  measured,  // progress or convert, whichever makes the program's collectives shorter
  inject     // nodes in the program's CUDA graphs (graph_plan_file.h)
};
inline constexpr std::string_view kViaNames[] = {"progress", "convert", "spare", "measured",
                                                 "inject"};
constexpr std::string_view to_string(Via via) {
  return kViaNames[static_cast<size_t>(via)];
}
// How, as schedule.json's method names it.
enum class Method : uint8_t {
  load,
  prefetcht0,
  prefetcht1,
  prefetcht2,
  prefetcht0_paced,
  prefetcht2_paced
};
inline constexpr std::string_view kMethodNames[] = {
    "load", "prefetcht0", "prefetcht1", "prefetcht2", "prefetcht0_paced", "prefetcht2_paced"};
enum class Mode : uint8_t {
  guard,     // arms alternate; the guard decides for the rest of the run
  dry_run,   // arms original and null alternate for ever, nothing is fetched
  always,    // on from the first step, with the guard's control pairs; nothing turns it off
  original,  // counts only: the arm original for ever
  compare    // arms alternate for ever as before a verdict; nothing is decided
};

inline constexpr std::string_view kModeNames[] = {"guard", "dry-run", "always", "original",
                                                  "compare"};

struct PlanText {
  uint32_t offset, bytes;  // in the text bytes
};

// One collective of the step, in order; the first follows the last of the step before.
struct PlanCollective {
  int64_t bytes;           // as hooks/mpi/collectives.cc counts them; -1: unknown; or kAnyBytes
  uint32_t ranks;          // of the communicator
  uint16_t function;       // hooks/mpi/functions.h
  uint8_t type_bytes;      // 0: the call has no type
  uint8_t after_messages;  // point-to-point calls since the collective before: kNo, kYes, kEither
  char type[64];           // MPI's name of it, padded with zeros
  std::string_view type_name() const { return {type, type_bytes}; }
};
inline constexpr uint8_t kNo = 0, kYes = 1, kEither = 2;

// The collectives that carry fetches, by ascending position.
struct PlanWindow {
  uint32_t collective;  // position
  uint32_t first_slice, slices;
  uint32_t reserved;
};

struct PlanSlice {  // in the order in which they are fetched
  uint32_t tensor;
  uint32_t reserved;
  uint64_t offset_bytes, length_bytes;
};

enum class TensorKind : uint32_t {
  region,     // an NVTX memory region, by name
  allocation  // by the name that hooks/memory/allocations.h gives it
};
struct PlanTensor {
  TensorKind kind;
  uint32_t reserved;
  uint64_t bytes;  // that the plan uses; for information alone
  PlanText name;
};

struct PlanHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint32_t collectives, windows, slices, tensors, text_bytes;
  uint32_t ranks;  // of MPI_COMM_WORLD; with another number nothing is fetched
  Via via;
  Method method;
  Mode mode;
  uint8_t reserved0;
  uint32_t chunk_bytes;  // most of one turn of the progress engine
  uint32_t turn_ns;      // about how long one turn may last: chunks become smaller until they fit
  uint32_t idle_turns;   // of a window before its first fetch: the last rank to come has no wait
  int64_t link_latency_ns;   // stand-in: added to every collective in every arm; 0: none
  uint32_t deadline_pairs;   // guard: AMBG after so many pairs with the plan turns it off
  uint32_t control_every;    // guard: after FAST, one pair in so many still compares
  uint32_t sample_capacity;  // steps whose times are kept
  uint32_t reserved1;
  PlanText folder;  // absolute; where outcomes go
};
static_assert(sizeof(PlanCollective) == 80 && sizeof(PlanWindow) == 16 && sizeof(PlanSlice) == 24 &&
              sizeof(PlanTensor) == 24 && sizeof(PlanHeader) == 96);

inline constexpr uint32_t kDefaultTurnNs = 1500, kDefaultIdleTurns = 2, kDefaultDeadlinePairs = 34,
                          kDefaultControlEvery = 32, kDefaultSampleCapacity = 1 << 16;

// Of either kind of plan: the header, and nullptr when it is one.
template <typename Header>
const char* take_header(std::span<const std::byte> file, const char (&magic)[8], uint32_t version,
                        Header& header) {
  if (file.size() < sizeof(header)) return "shorter than its header";
  std::memcpy(&header, file.data(), sizeof(header));
  if (std::memcmp(header.magic, magic, sizeof(magic)) != 0) return "not a plan of this kind";
  if (header.version != version) return "of another version";
  return header.header_bytes == sizeof(header) ? nullptr : "its header has another size";
}
// The next array of the file, which begins at `at`.
template <typename T>
bool take_array(std::span<const std::byte> file, size_t& at, uint32_t count,
                std::span<const T>& out) {
  if (count > (sizeof(T) == 1 ? kMostEntries * 64 : kMostEntries)) return false;
  const size_t bytes = count * sizeof(T);
  if (bytes > file.size() - at || reinterpret_cast<uintptr_t>(file.data() + at) % alignof(T) != 0) {
    return false;
  }
  out = {reinterpret_cast<const T*>(file.data() + at), count};
  at += bytes;
  return true;
}

// What both kinds of plan have. A plan in memory that somebody else keeps.
template <typename Header, typename Step, typename Window, typename Slice>
class PlanArrays {
 public:
  const Header& header() const { return header_; }
  std::span<const Window> windows() const { return windows_; }
  std::span<const Slice> slices(const Window& window) const {
    return slices_.subspan(window.first_slice, window.slices);
  }
  std::span<const PlanTensor> tensors() const { return tensors_; }
  std::string_view text() const { return {text_.data(), text_.size()}; }
  std::string_view text(PlanText text) const { return {text_.data() + text.offset, text.bytes}; }
  std::string_view folder() const { return text(header_.folder); }

 protected:
  // nullptr when the arrays and the folder are there, else what is wrong.
  const char* open(std::span<const std::byte> file, const char (&magic)[8], uint32_t version,
                   uint32_t Header::*steps) {
    if (const char* wrong = take_header(file, magic, version, header_)) return wrong;
    size_t at = sizeof(header_);
    if (!take_array(file, at, header_.*steps, steps_) ||
        !take_array(file, at, header_.windows, windows_) ||
        !take_array(file, at, header_.slices, slices_) ||
        !take_array(file, at, header_.tensors, tensors_) ||
        !take_array(file, at, header_.text_bytes, text_)) {
      return "its arrays do not fit into it";
    }
    if (at != file.size() || header_.file_bytes != file.size()) {
      return "cut, or longer than it says";
    }
    if (!is_text(header_.folder) || folder().empty() || folder()[0] != '/') {
      return "its folder is not an absolute path";
    }
    return nullptr;
  }

  bool is_text(PlanText text) const {
    return text.offset <= text_.size() && text.bytes <= text_.size() - text.offset;
  }
  bool is_in_order(uint32_t Window::*position) const {
    int64_t last = -1;
    for (const Window& window : windows_) {
      if (window.*position <= last || window.*position >= steps_.size()) return false;
      last = window.*position;
    }
    return true;
  }
  bool has_slices(const Window& window) const {
    return window.first_slice <= slices_.size() &&
           window.slices <= slices_.size() - window.first_slice;
  }
  static bool is_range(const Slice& slice) {
    return slice.length_bytes != 0 && slice.offset_bytes <= UINT64_MAX - slice.length_bytes;
  }

  Header header_{};
  std::span<const Step> steps_;
  std::span<const Window> windows_;
  std::span<const Slice> slices_;
  std::span<const PlanTensor> tensors_;

 private:
  std::span<const char> text_;
};

class PlanView : public PlanArrays<PlanHeader, PlanCollective, PlanWindow, PlanSlice> {
 public:
  // nullptr when all is well, else what is wrong. Nothing may be asked of a view that is not well.
  const char* open(std::span<const std::byte> file) {
    const char* wrong = PlanArrays::open(file, kPlanMagic, kPlanVersion, &PlanHeader::collectives);
    return wrong != nullptr ? wrong : check();
  }

  std::span<const PlanCollective> collectives() const { return steps_; }

 private:
  const char* check() const {
    if (steps_.empty()) return "its step has no collectives";
    if (steps_.size() > kMostCollectives) return "its step has too many collectives";
    if (header_.via > Via::measured || header_.method > Method::prefetcht2_paced ||
        header_.mode > Mode::compare) {
      return "asks for what this version does not know";
    }
    if (header_.ranks == 0 || header_.chunk_bytes < 64 || header_.chunk_bytes > 1 << 24 ||
        header_.turn_ns == 0 || header_.link_latency_ns < 0 ||
        header_.link_latency_ns > 1'000'000'000 || header_.deadline_pairs == 0 ||
        header_.control_every == 0 || header_.sample_capacity > 1 << 24) {
      return "a number in its header is out of range";
    }
    for (const PlanCollective& collective : steps_) {
      if (collective.type_bytes > sizeof(collective.type) || collective.after_messages > kEither) {
        return "a collective is damaged";
      }
    }
    if (!is_in_order(&PlanWindow::collective)) {
      return "a window is not at a collective, or out of order";
    }
    for (const PlanWindow& window : windows_) {
      if (!has_slices(window)) return "a window's slices are missing";
    }
    for (const PlanSlice& slice : slices_) {
      if (slice.tensor >= tensors_.size() || !is_range(slice)) return "a slice is damaged";
    }
    for (const PlanTensor& tensor : tensors_) {
      if (tensor.kind > TensorKind::allocation || !is_text(tensor.name)) {
        return "a tensor is damaged";
      }
    }
    return nullptr;
  }
};

}  // namespace preserve::apply
