// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/streams.h"

namespace preserve::gpu {

uint32_t StreamTable::index(const Stream& stream) {
  if (last_ < streams_.size() && streams_[last_] == stream) return last_;
  const auto [entry, fresh] = index_.try_emplace(stream, static_cast<uint32_t>(streams_.size()));
  if (fresh) streams_.push_back(stream);
  return last_ = entry->second;
}

std::vector<StreamId> StreamTable::add_rows(
    TraceDb& db, const std::function<ProcessId(const Stream&)>& process, const std::string& host,
    const std::function<DeviceFacts(int64_t device)>& facts,
    const std::function<std::string(const Stream&)>& name) const {
  std::map<int64_t, DeviceId> devices;
  for (const Stream& stream : streams_) devices[stream.device];
  for (auto& [number, row] : devices) {
    const DeviceFacts known = facts(number);
    row = db.add(DeviceRow{.host = host,
                           .kind = "gpu",
                           .name = known.name,
                           .cache_bytes = known.cache_bytes,
                           .memory_bytes = known.memory_bytes,
                           .memory_bandwidth_bytes_per_s = known.bandwidth_bytes_per_s,
                           .units = known.units});
  }
  std::vector<StreamId> rows;
  for (const Stream& stream : streams_) {
    rows.push_back(db.add(StreamRow{.process = process(stream),
                                    .device = devices[stream.device],
                                    .kind = StreamKind::gpu,
                                    .native_id = stream.number,
                                    .name = name ? name(stream) : std::string()}));
  }
  return rows;
}

}  // namespace preserve::gpu
