// SPDX-License-Identifier: Apache-2.0
#include "tests/support/spool_writer.h"

#include <cstring>
#include <fstream>

namespace preserve::test {

using namespace spool;

namespace {

template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

std::string padded_text(const std::string& text) {
  std::string out = text;
  out.resize(padded(text.size()));
  return out;
}

// With its header.
std::string whole_record(RecordType type, int64_t ns, uint8_t flags = 0, uint16_t domain = 0,
                         const std::string& body = "", const std::string& text = "") {
  const std::string tail = body + padded_text(text);
  return bytes_of(RecordHeader{static_cast<uint16_t>((sizeof(RecordHeader) + tail.size()) / 8),
                               static_cast<uint16_t>(text.size()), type, flags, domain,
                               static_cast<uint64_t>(ns)}) +
         tail;
}

}  // namespace

SpoolWriter::SpoolWriter(std::filesystem::path path,
                         std::vector<std::pair<std::string, std::string>> facts)
    : path_(std::move(path)) {
  facts.insert(facts.begin(), {{"host", "testhost"}, {"command", "program"}});
  for (const auto& [name, value] : facts) facts_ += name + '\0' + value + '\0';
  facts_ = padded_text(facts_);
}

void SpoolWriter::raw_bytes(const std::string& bytes) {
  if (threads_.empty() || threads_.back().tid != tid_ || threads_.back().ordinal != ordinal_) {
    threads_.push_back({tid_, ordinal_, ""});
  }
  threads_.back().bytes += bytes;
}

void SpoolWriter::raw(const RecordHeader& head, const std::string& tail) {
  raw_bytes(bytes_of(head) + tail);
}

void SpoolWriter::record(RecordType type, int64_t ns, uint8_t flags, uint16_t domain_number,
                         const std::string& body, const std::string& text) {
  last_ns_ = std::max(last_ns_, ns);
  raw_bytes(whole_record(type, ns, flags, domain_number, body, text));
}

void SpoolWriter::push(const std::string& name, int64_t ns, uint16_t domain_number) {
  record(RecordType::push, ns, 0, domain_number, "", name);
  ++events_;
}
void SpoolWriter::pop(int64_t ns, uint16_t domain_number) {
  record(RecordType::pop, ns, 0, domain_number, "", "");
  ++events_;
}
void SpoolWriter::mark(const std::string& name, int64_t ns) {
  record(RecordType::mark, ns, 0, 0, "", name);
  ++events_;
}

void SpoolWriter::call(mpi::Function function, int64_t bytes, int64_t start_ns, int64_t end_ns,
                       uint8_t flags) {
  MpiBody body{};
  body.end_ticks = static_cast<uint64_t>(end_ns);
  body.bytes = bytes;
  body.communicator = 7;
  body.sequence = static_cast<int64_t>(calls_);
  body.ranks = 2;
  body.peer = -1;
  body.tid = tid_;
  body.function = function;
  record(RecordType::mpi, start_ns, flags, 0, bytes_of(body), "MPI_FLOAT");
  last_ns_ = std::max(last_ns_, end_ns);
  ++calls_;
}

void SpoolWriter::definition(RecordType type, uint16_t domain_number, int64_t ns,
                             const DefinitionBody& body, const std::string& text) {
  definitions_ += whole_record(type, ns, 0, domain_number, bytes_of(body), text);
}

void SpoolWriter::domain(uint16_t number, const std::string& name) {
  definition(RecordType::domain, number, 0, {number, 0, 0, 0}, name);
}

uint64_t SpoolWriter::heap(const std::string& name, int64_t ns) {
  definition(RecordType::heap, 0, ns, {next_id_, 0, 0, 0}, name);
  return next_id_++;
}

void SpoolWriter::end_heap(uint64_t heap_id, int64_t ns) {
  definition(RecordType::heap_unregister, 0, ns, {heap_id, 0, 0, 0}, "");
}

void SpoolWriter::region(const std::string& name, uint64_t base, uint64_t bytes, int64_t ns,
                         uint64_t heap_id) {
  const uint64_t id = next_id_++;
  definition(RecordType::region, 0, ns, {id, heap_id, base, bytes}, "");
  definition(RecordType::region_name, 0, ns, {id, 0, 0, 0}, name);
}

void SpoolWriter::stray_name(const std::string& name, int64_t ns) {
  definition(RecordType::region_name, 0, ns, {next_id_++, 0, 0, 0}, name);
}

void SpoolWriter::resize(uint64_t base, uint64_t bytes, int64_t ns) {
  record(RecordType::region_resize, ns, 0, 0, bytes_of(DefinitionBody{0, 0, base, bytes}), "");
  ++events_;
}

void SpoolWriter::chunk(uint32_t tid, uint32_t ordinal, const std::string& records) {
  const auto bytes = static_cast<uint32_t>(records.size());
  file_ += bytes_of(ChunkHeader{kChunkMagic, tid, bytes, ordinal}) + records;
}

void SpoolWriter::finish(bool complete) {
  FileHeader head{};
  std::memcpy(head.magic, kMagic, sizeof(kMagic));
  head.version = kVersion;
  head.header_bytes = static_cast<uint32_t>(sizeof(head) + facts_.size());
  head.pid = 4711;
  head.ppid = 1;
  head.clock = Clock::monotonic;
  head.start_ticks = 1;
  head.start_ns = 1;
  file_ = bytes_of(head) + facts_;
  const auto anchor_ns = static_cast<uint64_t>(last_anchor_ns < 0 ? last_ns_ : last_anchor_ns);
  definition(RecordType::anchor, 0, last_ns_, {anchor_ns, 0, 0, 0}, "");
  chunk(0, 0, definitions_);
  for (const Records& records : threads_) chunk(records.tid, records.ordinal, records.bytes);
  const StatisticsBody statistics{tid_, events_ + dropped, dropped, calls_, 0, 0, 0};
  std::string control = whole_record(RecordType::statistics, last_ns_, 0, 0, bytes_of(statistics));
  if (complete) control += whole_record(RecordType::trailer, last_ns_);
  chunk(0, 0, control);
  std::ofstream out(path_, std::ios::binary);
  out << file_;
}

}  // namespace preserve::test
