// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/packed_records.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/error.h"

namespace preserve::gpu {
namespace {

constexpr size_t kWord = sizeof(uint64_t);
constexpr size_t kWriteBytes = 256 << 10;  // collected before they are written
constexpr std::array<char, PackedRecords::kMostBytes> kBeforeFirst{};

uint64_t word_at(const char* at) {
  uint64_t word = 0;
  std::memcpy(&word, at, kWord);
  return word;
}

// A record is packed as the numbers of bytes that its words have, half a byte for each, and these
// bytes: of each word the lower ones, up to the last that is not as in the record before. Words go
// in pairs, because mostly both are as before.
constexpr size_t kPair = 2 * kWord;

size_t length_bytes(size_t record_bytes) {
  return (record_bytes + kWord) / kPair;
}

char* pack(const char* records, size_t record_bytes, size_t count, char* out) {
  const char* before = kBeforeFirst.data();
  for (size_t i = 0; i < count; ++i, before = records, records += record_bytes) {
    char* lengths = out;
    out += length_bytes(record_bytes);
    const auto add = [&](uint64_t changed) {
      const auto bytes = (static_cast<size_t>(std::bit_width(changed)) + 7) / 8;
      std::memcpy(out, &changed, kWord);
      out += bytes;
      return bytes;
    };
    size_t at = 0;
    for (; at + kPair <= record_bytes; at += kPair, ++lengths) {
      const uint64_t first = word_at(records + at) ^ word_at(before + at);
      const uint64_t second = word_at(records + at + kWord) ^ word_at(before + at + kWord);
      *lengths = 0;
      if ((first | second) == 0) continue;
      const size_t bytes = add(first);
      *lengths = static_cast<char>(bytes | add(second) << 4);
    }
    if (at < record_bytes)
      *lengths = static_cast<char>(add(word_at(records + at) ^ word_at(before + at)));
  }
  return out;
}

// False when the bytes up to `end` are not what pack() wrote; 2 * kPair more may be read.
bool unpack(const char* packed, const char* end, size_t record_bytes, size_t count, char* records) {
  const char* before = kBeforeFirst.data();
  for (size_t i = 0; i < count; ++i, before = records, records += record_bytes) {
    const char* lengths = packed;
    if (end - packed < static_cast<std::ptrdiff_t>(length_bytes(record_bytes))) return false;
    packed += length_bytes(record_bytes);
    const auto take = [&](size_t at, size_t bytes) {
      const uint64_t mask = bytes >= kWord ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
      const uint64_t value = word_at(before + at) ^ (word_at(packed) & mask);
      std::memcpy(records + at, &value, kWord);
      packed += std::min(bytes, kWord);
    };
    std::memcpy(records, before, record_bytes);
    size_t at = 0;
    for (; at + kPair <= record_bytes; at += kPair, ++lengths) {
      const auto both = static_cast<unsigned char>(*lengths);
      if (both == 0) continue;
      if (packed > end) return false;
      take(at, both & 0xf);
      take(at + kWord, both >> 4);
    }
    if (packed > end) return false;
    if (at < record_bytes) take(at, static_cast<unsigned char>(*lengths) & 0xf);
    if (packed > end) return false;
  }
  return packed == end;
}

}  // namespace

size_t PackedRecords::most_packed_bytes(size_t count) const {
  return count * (record_bytes_ + length_bytes(record_bytes_)) + 2 * kPair;
}

void PackedRecords::append(const void* records, size_t count) {
  if (!file_) file_.reset(unnamed_temporary_file());
  const auto* next = static_cast<const char*>(records);
  packed_.resize(std::max(packed_.size(), kWriteBytes + most_packed_bytes(kBlock)));
  char* out = packed_.data();
  while (count > 0) {
    const size_t in_block = std::min(count, kBlock);
    starts_.push_back(bytes_ + (out - packed_.data()));
    out = pack(next, record_bytes_, in_block, out);
    next += in_block * record_bytes_;
    count -= in_block;
    if (const auto waiting = out - packed_.data();
        count == 0 || waiting >= static_cast<std::ptrdiff_t>(kWriteBytes)) {
      write_at(file_.get(), bytes_, packed_.data(), waiting);
      bytes_ += waiting;
      out = packed_.data();
    }
  }
}

void PackedRecords::read(size_t block, size_t count, void* records) const {
  const int64_t end = block + 1 < starts_.size() ? starts_[block + 1] : bytes_;
  const int64_t bytes = end - starts_[block];
  packed_.resize(std::max(packed_.size(), most_packed_bytes(count)));
  read_at(file_.get(), starts_[block], packed_.data(), bytes);
  if (!unpack(packed_.data(), packed_.data() + bytes, record_bytes_, count,
              static_cast<char*>(records))) {
    throw input_error("cannot read back a temporary file: it is not what was written");
  }
}

}  // namespace preserve::gpu
