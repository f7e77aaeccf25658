// SPDX-License-Identifier: Apache-2.0
// The streams of one process and the devices they are on, numbered as they come. A stream is known
// by device, context and number: numbers repeat between contexts.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve::gpu {

struct DeviceFacts {
  std::string name{};
  std::optional<int64_t> memory_bytes{}, cache_bytes{}, bandwidth_bytes_per_s{}, units{};
};

class StreamTable {
 public:
  struct Stream {
    int64_t device = 0, context = 0, number = 0;
    auto operator<=>(const Stream&) const = default;
  };

  // Index of a stream, a new one when it is not known yet.
  uint32_t index(const Stream& stream);
  size_t size() const { return streams_.size(); }
  const Stream& operator[](size_t index) const { return streams_[index]; }
  auto begin() const { return streams_.begin(); }
  auto end() const { return streams_.end(); }

  // Adds a row for each device, in the order of their numbers, and for each stream. `process` says
  // whose a stream is; `facts` is asked once per device; `name` gives a stream's name, which may be
  // empty.
  std::vector<StreamId> add_rows(TraceDb& db,
                                 const std::function<ProcessId(const Stream&)>& process,
                                 const std::string& host,
                                 const std::function<DeviceFacts(int64_t device)>& facts,
                                 const std::function<std::string(const Stream&)>& name = {}) const;

 private:
  std::vector<Stream> streams_;
  std::map<Stream, uint32_t> index_;
  uint32_t last_ = 0;
};

}  // namespace preserve::gpu
