// SPDX-License-Identifier: Apache-2.0
// Ranges of operators that were launched directly are those around their launch. A node of a CUDA
// graph has two places: around the replay (decode_step) and around its capture (layers.3.mlp). NVTX
// is silent when a graph is replayed, so for every replay the ranges of the capture are laid below
// those of the replay, each from its first to its last operator on the device.
#pragma once

#include <unordered_map>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

struct HostRange;

class RangeProjection {
 public:
  RangeProjection(const Run& run, const GrowingArray<HostRange>& host) : run_(run), host_(host) {}

  // Both 0 where nothing is known. `projected` counts from 1 and is the inner one.
  struct Place {
    uint32_t host = 0, projected = 0;
  };
  Place place(const Activity& activity);
  // The host range of a place, the inner one; 0 none.
  uint32_t host_range(const Place& place) const {
    return place.projected != 0 ? ranges_[place.projected - 1].host : place.host;
  }
  // Adds the projected ranges, parents first; the row of number i is at [i - 1]. Operators in more
  // ranges than are followed are counted in table loss.
  GrowingArray<RangeId> write(TraceDb& db, const std::vector<StreamId>& streams) const;

 private:
  struct Key {
    uint32_t range, replay;
    int64_t gpu;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      const uint64_t h =
          ((uint64_t{key.range} << 32 | key.replay) + static_cast<uint64_t>(key.gpu)) *
          0x9e3779b97f4a7c15u;
      return static_cast<size_t>(h ^ (h >> 32));
    }
  };
  struct Projected {
    uint32_t host, stream;
    uint32_t parent;  // projected, 0: `around`
    uint32_t around;  // host range around the replay
    uint32_t depth;   // how many projected ones it is in, with itself
    bool cut;         // some of the ranges around it are left out
    int64_t start_ns = INT64_MAX, end_ns = INT64_MIN;
  };
  uint32_t parent_of(uint32_t range) const;
  bool around_replay(uint32_t range, uint32_t around) const;

  const Run& run_;
  const GrowingArray<HostRange>& host_;
  std::unordered_map<Key, uint32_t, KeyHash> index_;  // number of the projected range
  GrowingArray<Projected> ranges_;
  std::vector<uint32_t> path_;
  int64_t placed_ = 0, too_deep_ = 0;  // operators in ranges of a capture
};

}  // namespace preserve::cuda
