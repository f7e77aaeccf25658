// SPDX-License-Identifier: Apache-2.0
// NVTX memory regions -> rows of `tensor`, and which of them an operator touches. A region has one
// row per period in which its size was constant. A tensor belongs to the range whose name is the
// longest module prefix of its own: layers.3.mlp.up.weight -> layers.3.mlp.up. Times in ns.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/names.h"

namespace preserve {

TensorRole tensor_role(std::string_view name, std::string_view heap);

// The tensors that operators of a range touch: its own, or those of the nearest range around it
// with any.
struct ModuleOfRange {
  const std::vector<uint32_t>* tensors = nullptr;
  bool known = false;  // that is: looked for
  bool own = false;
  bool touched = false;  // by an earlier segment of the same range
};

// What happened to one region of memory, as recorded.
struct RegionEvent {
  enum Kind { heap, heap_end, heap_reset, begin, resize, end, name };
  Kind kind;
  int64_t ns;
  uint64_t id;       // heap or region; 0: by address
  uint64_t heap_id;  // begin
  uint64_t base, bytes;
  std::string text;      // heap, name
  bool counted = false;  // among the records that the collector received
};

// A first touch of memory since the MPI call before.
struct Touch {
  int64_t ns;
  uint64_t begin, bytes;  // what was unprotected by it: whole pages
  bool write;
  bool counted = false;  // among the records that the collector received
};

class Tensors {
 public:
  // Adds the rows. Events in any order; touches, by time, tell what an allocation without a name is
  // for.
  Tensors(TraceDb& db, Names& names, ProcessId process, std::vector<RegionEvent> events,
          std::span<const Touch> touches = {});

  int64_t unmatched() const { return unmatched_; }  // events about unknown regions
  int64_t unmatched_uncounted() const { return unmatched_uncounted_; }  // of them, not `counted`
  int64_t count() const { return static_cast<int64_t>(tensors_.size()); }

  // Decides for each name of a range (`is_range`, by StringId value) which tensors are its own.
  void assign_to_modules(const TraceDb& db, const std::vector<bool>& is_range);

  struct Period {
    int64_t from_ns, to_ns;
    uint64_t bytes;
    TensorId row;
  };
  struct Tensor {
    TensorRole role;
    std::vector<Period> periods;  // in order
    int64_t bytes_seen = -1;      // size at the last access; -1: none yet
    const Period* at(int64_t ns) const;
  };
  // Every period of every named region, with its addresses.
  struct Mapped {
    uint64_t base, bytes;
    int64_t from_ns, to_ns;
    TensorId row;
    TensorRole role;
    bool is_allocation = false;  // nobody named it
  };
  const std::vector<Mapped>& mapped() const { return mapped_; }
  // By touch: the allocation that was touched; nullptr: none that is known.
  const std::vector<const Mapped*>& touched() const { return touched_; }
  // The tensors of a range name; nullptr when it has none.
  const std::vector<uint32_t>* of_module(uint32_t range_name) const;
  Tensor& tensor(uint32_t index) { return tensors_[index]; }

 private:
  struct Region {
    uint64_t base, bytes;
    int64_t from_ns;
    std::string name;
    TensorRole role;
    std::vector<Period> periods;
    bool live;
  };
  void apply(const RegionEvent& event);
  Region* find_live(const RegionEvent& event);
  void end_period(Region& region, int64_t ns);
  void add_rows(TraceDb& db, Names& names, ProcessId process, std::span<const Touch> touches);

  std::vector<Region> regions_;
  std::map<uint64_t, size_t> by_id_, by_base_;  // live regions
  std::map<uint64_t, std::vector<size_t>> by_heap_;
  std::map<uint64_t, std::string> heaps_;
  std::vector<Tensor> tensors_;
  std::vector<Mapped> mapped_;
  std::vector<const Mapped*> touched_;
  std::vector<std::string> tensor_names_;
  std::unordered_map<uint32_t, std::vector<uint32_t>> modules_;
  int64_t unmatched_ = 0, unmatched_uncounted_ = 0;
};

// By touch: the allocation among `mapped` that was touched; nullptr: none that lived then, or none
// of the 64 that begin closest before it: `given_up` gets the places of those.
std::vector<const Tensors::Mapped*> touched_allocations(std::span<const Touch> by_time,
                                                        const std::vector<Tensors::Mapped>& mapped,
                                                        std::vector<size_t>& given_up);

}  // namespace preserve
