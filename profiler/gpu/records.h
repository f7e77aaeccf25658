// SPDX-License-Identifier: Apache-2.0
// What every importer makes of its file before anything is joined: GPU activities, launches, ranges
// of host threads, and the two kinds of fact that hang on them (shapes of operands, what a
// collective says of itself). Times are ns on the file's clock. Trivially copyable, because they
// are sorted on disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace preserve::import {

enum class GpuKind : uint8_t { kernel, copy };

struct GpuActivity {
  int64_t start_ns = 0, end_ns = 0;
  int64_t correlation = 0;     // 0: none was recorded
  int64_t copy_bytes = -1;     // of copies and fills, -1 unknown
  uint32_t stream = 0;         // ProcessBuilder::gpu_stream()
  uint32_t name = 0;           // row of table string
  uint32_t communication = 0;  // CommunicationTable, 0 none
  int64_t graph = 0;           // 0: not from a graph
  int64_t graph_node = -1;
  GpuKind kind = GpuKind::kernel;
  // Filled by the joins.
  bool launched = false;     // a launch was found
  bool from_replay = false;  // shares its launch with other activities
  uint32_t thread = 0;       // of the launch
  int64_t launch_ns = 0;
  uint32_t range = 0;     // row of table range, 0 none
  uint32_t operands = 0;  // OperandTable, 0 none
  uint32_t scope = 0;     // ImportedProcess::scopes: module path around the launch
  uint32_t op_name = 0;   // row of table string: operator that has the operands
  bool facts_from_range = false;
};

struct Launch {
  int64_t correlation = 0;
  int64_t start_ns = 0;
  uint32_t thread = 0;
};

enum class RangeClass : uint8_t { annotation, module, op };

struct HostRange {
  int64_t start_ns = 0, end_ns = 0;
  uint32_t thread = 0;
  uint32_t name = 0;
  uint32_t domain = 0;  // row of table string, 0 default
  uint32_t operands = 0;
  uint32_t communication = 0;
  RangeClass range_class = RangeClass::annotation;
  bool open = false;  // the recording ended inside
  bool nests = true;  // false: NVTX start/end, which need not
};

// What c10d or NCCL say about one collective.
struct Communication {
  std::string function{};
  std::string dtype{};
  std::optional<int64_t> in_elements{}, out_elements{}, bytes{}, ranks{}, sequence{},
      communicator{};
  std::optional<int64_t> peer{};
};

struct Operand {
  std::vector<int64_t> dims{};
  std::string dtype{};  // as the framework writes it; empty unknown
};

// "all_reduce", "_allgather_base", "AllReduce", ... in the words of table collective; empty when it
// is no communication.
std::string collective_function(std::string_view name);
// Bytes of one element, by the names that PyTorch and NCCL use; nothing when unknown. Sub-byte
// types are counted as one byte.
std::optional<int64_t> dtype_bytes(std::string_view dtype);
// The same type in the words of table gemm: "c10::Half" is fp16. Empty when it is none of them.
std::string_view weight_dtype(std::string_view dtype);

// Shapes of an operator's operands, each distinct list kept once. Entry 0 is "none".
class OperandTable {
 public:
  // JSON texts of "Input Dims" and "Input type"; `types` may be empty. 0 when nothing is in them,
  // or when the table is full (kLimit): shapes repeat per layer and step, a file where they do not
  // is no reason to lose the memory bound.
  uint32_t add(std::string_view dims, std::string_view types);
  const std::vector<Operand>& at(uint32_t index) const { return lists_[index]; }

  static constexpr size_t kLimit = 100'000;

 private:
  std::vector<std::vector<Operand>> lists_{{}};
  std::unordered_map<std::string, uint32_t> known_;
  std::string key_;
};

}  // namespace preserve::import
