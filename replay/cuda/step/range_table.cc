// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/step/range_table.h"

#include <cstring>

#include "common/error.h"
#include "common/rounded_up.h"

namespace preserve::cuda {
namespace {

constexpr uint64_t kAlignment = 16;

DeviceRange entry_of(const GpuRange& range, bool whole_lines) {
  if (range.bytes < 0 || range.address % kAlignment != 0 || range.bytes % 16 != 0) {
    throw internal_error("a range of {} bytes at {:#x} is not aligned to 16 bytes", range.bytes,
                         range.address);
  }
  const auto bytes = static_cast<uint64_t>(range.bytes);
  if (!whole_lines || bytes == 0) return {range.address, bytes, 0};
  const uint64_t begin = range.address / kLineBytes * kLineBytes;
  const uint64_t end = rounded_up(range.address + bytes, kLineBytes);
  return {begin, end - begin, 0};
}

}  // namespace

size_t DeviceImage::add(size_t bytes, size_t alignment) {
  const size_t offset = rounded_up(bytes_.size(), alignment);
  bytes_.resize(offset + bytes);
  return offset;
}

size_t DeviceImage::add_table(std::span<const GpuRange> ranges, uint64_t unit_bytes,
                              bool whole_lines) {
  std::vector<DeviceRange> entries;
  uint64_t units = 0;
  for (const GpuRange& range : ranges) {
    DeviceRange entry = entry_of(range, whole_lines);
    if (entry.bytes == 0) continue;
    entry.first_unit = units;
    units += (entry.bytes + unit_bytes - 1) / unit_bytes;
    entries.push_back(entry);
  }
  const RangeTable head{entries.size(), units};
  entries.push_back({0, 0, units});
  const size_t offset = add(sizeof(head) + entries.size() * sizeof(DeviceRange), 16);
  std::memcpy(&bytes_[offset], &head, sizeof(head));
  std::memcpy(&bytes_[offset + sizeof(head)], entries.data(), entries.size() * sizeof(DeviceRange));
  return offset;
}

}  // namespace preserve::cuda
