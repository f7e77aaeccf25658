// SPDX-License-Identifier: Apache-2.0
// Reads spool files (spool.h) written by another, possibly killed, process. Maps the file and
// checks every length before it is used; what does not fit is counted as damaged, never trusted. A
// file that is no spool at all, or of a newer version, is an input_error naming it.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

// One record, pointing into the mapped file. Bodies are copied out: nothing in a file is aligned.
struct SpoolRecord {
  spool::RecordHeader head{};
  std::string_view tail;  // everything after the header

  // False when the record is too short for its body, its text or its blob.
  template <typename Body>
  bool split(Body* body, std::string_view* text, std::string_view* blob) const {
    if (tail.size() < sizeof(Body) + spool::padded(head.text_bytes)) return false;
    std::memcpy(static_cast<void*>(body), tail.data(), sizeof(Body));
    *text = tail.substr(sizeof(Body), head.text_bytes);
    *blob = tail.substr(sizeof(Body) + spool::padded(head.text_bytes));
    return true;
  }
  // An event may have no body, and says how long its blob is.
  bool event(spool::EventBody* body, std::string_view* text, std::string_view* blob) const;
};

// Walks the records of a chunk.
class SpoolCursor {
 public:
  explicit SpoolCursor(std::string_view bytes) : rest_(bytes) {}
  // False at the end, or where a record does not fit: see damaged().
  bool next(SpoolRecord* record);
  bool damaged() const { return damaged_; }

 private:
  std::string_view rest_;
  bool damaged_ = false;
};

class SpoolFileReader {
 public:
  explicit SpoolFileReader(const std::filesystem::path& path);
  ~SpoolFileReader();
  SpoolFileReader(SpoolFileReader&& other) noexcept;
  SpoolFileReader& operator=(SpoolFileReader&&) = delete;
  SpoolFileReader(const SpoolFileReader&) = delete;

  const std::string& name() const { return name_; }
  const spool::FileHeader& header() const { return header_; }
  std::string_view fact(const std::string& key) const;  // host, command; empty when absent
  const std::map<std::string, std::string_view>& facts() const { return facts_; }

  struct Chunk {
    uint32_t tid, ordinal;
    std::string_view records;
  };
  const std::vector<Chunk>& chunks() const { return chunks_; }
  uint64_t gap_bytes() const { return gap_bytes_; }  // of older records that gave way
  bool torn() const { return torn_; }                // ends in the middle of a chunk
  // `bytes` more were looked at. What lies in memory is given back from time to time, else a large
  // file fills it; it is read again where it is needed.
  void looked_at(size_t bytes) const;

 private:
  void read_header();
  void read_chunks();

  std::string name_;
  const char* data_ = nullptr;
  size_t size_ = 0;
  spool::FileHeader header_{};
  std::map<std::string, std::string_view> facts_;
  std::vector<Chunk> chunks_;
  uint64_t gap_bytes_ = 0;
  bool torn_ = false;
  mutable size_t in_memory_ = 0;
};

}  // namespace preserve
