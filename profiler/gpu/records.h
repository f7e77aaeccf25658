// SPDX-License-Identifier: Apache-2.0
// The record model of GPU activity: what spools of our own collector and traces of other profilers
// both become before they are joined.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace preserve::gpu {

inline constexpr int64_t kNoNode = -1;

// A kernel, copy or fill that ran, before anything is joined. Trivially copyable, because millions
// of them are kept, and sorted on disk.
struct Activity {
  int64_t start_ns = 0, end_ns = 0;
  int64_t correlation = 0;  // 0: none was recorded
  int64_t graph = 0;        // 0: not from a graph, or not known
  int64_t graph_node = kNoNode;
  int64_t bytes = -1;   // of copies and fills, -1 unknown
  uint32_t stream = 0;  // StreamTable
  uint32_t name = 0;    // in the numbering of whoever collects them
  bool is_copy = false;
};

// What is known of one collective, and from where.
struct CollectiveFacts {
  std::string function{}, dtype{};
  std::optional<int64_t> bytes{}, in_elements{}, out_elements{};
  std::optional<int64_t> ranks{}, communicator{}, sequence{}, peer{};
  const char* source = "kernel_name";
  double confidence = 0.5;  // of a name alone: the function, no bytes
};

// Of several calls that one kernel carries out: `call` is added to those that `facts` describes.
void fuse(CollectiveFacts& facts, const CollectiveFacts& call);

struct Operand {
  std::vector<int64_t> dims{};
  std::string dtype{};  // as the framework writes it; empty unknown
};

std::string lower_case(std::string_view text);  // ASCII letters only
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
  // A list of another table. 0 when the table is full.
  uint32_t add(const std::vector<Operand>& operands) {
    if (lists_.size() > kLimit) return 0;
    lists_.push_back(operands);
    return static_cast<uint32_t>(lists_.size() - 1);
  }
  const std::vector<Operand>& at(uint32_t index) const { return lists_[index]; }

  static constexpr size_t kLimit = 100'000;

 private:
  std::vector<std::vector<Operand>> lists_{{}};
  std::unordered_map<std::string, uint32_t> known_;
  std::string key_;
};

}  // namespace preserve::gpu
