// SPDX-License-Identifier: Apache-2.0
// Makes spool files by hand, for tests and benchmarks of the converter: what the collector would
// have written for one thread, with times in ns (the spool's clock is CLOCK_MONOTONIC).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "hooks/mpi/functions.h"
#include "profiler/spool.h"

namespace preserve::test {

class SpoolWriter {
 public:
  // Facts go into the header: {"env.OMPI_COMM_WORLD_RANK", "1"}.
  explicit SpoolWriter(std::filesystem::path path,
                       std::vector<std::pair<std::string, std::string>> facts = {});

  void thread(uint32_t tid) { tid_ = tid; }  // of the following records
  void next_thread() { ++ordinal_; }         // another one with the same tid
  void push(const std::string& name, int64_t ns, uint16_t domain = 0);
  void pop(int64_t ns, uint16_t domain = 0);
  void range(const std::string& name, int64_t begin_ns, int64_t end_ns) {
    push(name, begin_ns);
    pop(end_ns);
  }
  void mark(const std::string& name, int64_t ns);
  void call(mpi::Function function, int64_t bytes, int64_t start_ns, int64_t end_ns,
            uint8_t flags = 0);
  void domain(uint16_t number, const std::string& name);
  uint64_t heap(const std::string& name, int64_t ns);
  void end_heap(uint64_t heap, int64_t ns);
  void region(const std::string& name, uint64_t base, uint64_t bytes, int64_t ns,
              uint64_t heap = 0);
  // Names a region that was never registered.
  void stray_name(const std::string& name, int64_t ns);
  void resize(uint64_t base, uint64_t bytes, int64_t ns);
  // Any record, for what a collector would not write.
  void raw(const spool::RecordHeader& head, const std::string& tail);
  void raw_bytes(const std::string& bytes);

  // Writes the file: definitions, records in order, statistics, and a trailer when `complete`.
  void finish(bool complete = true);
  uint64_t dropped = 0;         // stated in the statistics
  int64_t last_anchor_ns = -1;  // the clock at the end; -1: the right time

 private:
  void record(spool::RecordType type, int64_t ns, uint8_t flags, uint16_t domain,
              const std::string& body, const std::string& text);
  void definition(spool::RecordType type, uint16_t domain, int64_t ns,
                  const spool::DefinitionBody& body, const std::string& text);
  void chunk(uint32_t tid, uint32_t ordinal, const std::string& records);

  std::filesystem::path path_;
  std::string facts_;
  uint32_t tid_ = 1, ordinal_ = 0;
  std::string definitions_;
  struct Records {
    uint32_t tid, ordinal;
    std::string bytes;
  };
  std::vector<Records> threads_;
  uint64_t events_ = 0, calls_ = 0, next_id_ = 1;
  int64_t last_ns_ = 0;
  std::string file_;
};

}  // namespace preserve::test
