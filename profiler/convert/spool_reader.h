// SPDX-License-Identifier: Apache-2.0
// Reads spool files (spool.h) written by another, possibly killed, process. Maps the file and
// checks every length before it is used; what does not fit is counted as damaged, never trusted. A
// file that is no spool at all, or of a newer version, is an input_error naming it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

// One record, pointing into the mapped file. Bodies are copied out: nothing in a file is aligned.
class SpoolRecord {
 public:
  spool::RecordHeader head{};
  std::string_view tail;  // everything after the header

  // False when the record is too short for its body, its text or its blob.
  bool event(spool::EventBody* body, std::string_view* text, std::string_view* blob) const;
  bool definition(spool::DefinitionBody* body, std::string_view* text,
                  std::string_view* blob) const;
  bool mpi(spool::MpiBody* body, std::string_view* type_name) const;
  bool statistics(spool::StatisticsBody* body) const;

 private:
  template <typename Body>
  bool split(Body* body, std::string_view* text, std::string_view* rest) const;
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
};

}  // namespace preserve
