// SPDX-License-Identifier: Apache-2.0
// Spool records made by hand, for tests of the CUDA half of the converter.
#pragma once

#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "profiler/convert/cuda/rows.h"
#include "profiler/cuda_records.h"

namespace preserve::test {

// One process's records and the ranges of its threads, ready for trace.db.
class CudaRecording {
 public:
  // Kernels have the names 1, 2, 3 ... of `names`.
  explicit CudaRecording(std::initializer_list<std::string_view> names = {}) {
    uint32_t id = 0;
    for (const std::string_view text : names) name(++id, text);
  }
  template <typename Body>
  void add(cuda::RecordType type, const Body& body, std::string_view text = {},
           std::string_view blob = {}, cuda::Position position = {1, 1, 0}) {
    std::string tail(reinterpret_cast<const char*>(&body), sizeof(body));
    tail.append(text);
    tail.resize(spool::padded(tail.size()));
    tail.append(blob);
    tail.resize(spool::padded(tail.size()));
    add_raw(type, tail, text.size(), position);
  }
  void add_raw(cuda::RecordType type, const std::string& tail, size_t text_bytes = 0,
               cuda::Position position = {1, 1, 0}) {
    spool::RecordHeader head{};
    head.units = static_cast<uint16_t>((sizeof(head) + tail.size()) / 8);
    head.text_bytes = static_cast<uint16_t>(text_bytes);
    head.type = static_cast<spool::RecordType>(type);
    reader.add(head, tail, position);
  }
  // Bytes as ActivityDecoder wrote them.
  void add_spool_bytes(const char* bytes, size_t size) {
    for (size_t at = 0; at < size;) {
      spool::RecordHeader head{};
      std::memcpy(&head, bytes + at, sizeof(head));
      const size_t record = size_t{head.units} * 8;
      reader.add(head, {bytes + at + sizeof(head), record - sizeof(head)}, {1, 1, 0});
      at += record;
    }
  }
  void name(uint32_t id, std::string_view text) {
    add(cuda::RecordType::name, cuda::NameBody{id, 0}, text);
  }
  void kernel(uint32_t name_id, int64_t start_ns, int64_t end_ns, uint32_t correlation,
              uint64_t node = 0, uint32_t stream = 7) {
    cuda::KernelBody body{};
    body.start_ns = start_ns;
    body.end_ns = end_ns;
    body.place = {0, 1, stream, correlation, node, node != 0 ? 5u : 0u, 0};
    body.name = name_id;
    body.grid[0] = body.grid[1] = body.grid[2] = 2;
    body.block[0] = 128;
    body.block[1] = body.block[2] = 1;
    body.generation = 10;
    add(cuda::RecordType::kernel, body);
  }
  // Launches are on thread 1.
  void launch(int64_t time_ns, uint32_t correlation, uint32_t range = 0, cuda::LaunchBody body = {},
              std::string_view parameters = {}) {
    body.correlation = correlation;
    body.parameter_bytes = static_cast<uint32_t>(parameters.size());
    add(cuda::RecordType::launch, body, {}, parameters, {time_ns, 1, range});
  }
  void launch_with(int64_t time_ns, uint32_t correlation, uint64_t function,
                   std::string_view parameters, uint32_t range = 0) {
    cuda::LaunchBody body{};
    body.function = function;
    launch(time_ns, correlation, range, body, parameters);
  }
  void launch_graph(int64_t time_ns, uint32_t correlation, uint32_t range = 0,
                    uint64_t executable = 0) {
    cuda::LaunchBody body{};
    body.kind = cuda::LaunchKind::graph;
    body.function = executable;
    launch(time_ns, correlation, range, body);
  }
  // A launch that makes a node of a graph.
  void capture(int64_t time_ns, uint32_t correlation, uint32_t range, uint64_t node_id) {
    launch(time_ns, correlation, range);
    node(time_ns + 1, node_id, cuda::NodeEvent::created);
  }
  void function(uint64_t id, std::string_view text,
                const std::vector<cuda::ParameterLayout>& layout) {
    add(cuda::RecordType::function, cuda::FunctionBody{id, static_cast<uint32_t>(layout.size()), 0},
        text,
        {reinterpret_cast<const char*>(layout.data()),
         layout.size() * sizeof(cuda::ParameterLayout)});
  }
  void memory(uint64_t address, int64_t bytes, bool release = false, int64_t time_ns = 1) {
    cuda::MemoryBody body{};
    body.time_ns = time_ns;
    body.address = address;
    body.bytes = bytes;
    body.release = release;
    add(cuda::RecordType::memory, body);
  }
  void node(int64_t time_ns, uint64_t node, cuda::NodeEvent event, uint64_t original = 0) {
    cuda::NodeBody body{};
    body.node = node;
    body.original = original;
    body.event = event;
    body.in_launch = event != cuda::NodeEvent::cloned;
    add(cuda::RecordType::node, body, {}, {}, {time_ns, 1, 0});
  }

  cuda::RunReader reader;
};

}  // namespace preserve::test
