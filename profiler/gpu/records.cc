// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/records.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace preserve::gpu {
namespace {

// No operator has more operands than this; tensor lists (fused optimizers) are cut.
constexpr size_t kOperandLimit = 32;
constexpr size_t kDimensionLimit = 64;

std::string letters_lower(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c >= 'A' && c <= 'Z') out += static_cast<char>(c + 32);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) out += c;
  }
  return out;
}

// The innermost lists of numbers of a nested JSON array: "[[2, 3], [], [[4], [5, 6]]]" gives
// [2,3] [] [4] [5,6]. Anything else in it is passed over.
std::vector<Operand> parse_dims(std::string_view text) {
  std::vector<Operand> operands;
  std::vector<int64_t> dims;
  bool has_child = true;
  for (size_t i = 0; i < text.size() && operands.size() < kOperandLimit; ++i) {
    const char c = text[i];
    if (c == '[') {
      dims.clear();
      has_child = false;
    } else if (c == ']') {
      if (!has_child) operands.push_back({dims, {}});
      dims.clear();
      has_child = true;  // the list around it
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      int64_t value = 0;
      const auto [rest, error] = std::from_chars(text.data() + i, text.data() + text.size(), value);
      if (error == std::errc::invalid_argument) continue;  // a lone minus: no progress was made
      if (dims.size() < kDimensionLimit) dims.push_back(error == std::errc() ? value : -1);
      i = static_cast<size_t>(rest - text.data()) - 1;
    }
  }
  // "[[..], [..]]": the outer list closes with has_child set, so only real lists are in here.
  return operands;
}

std::vector<std::string> parse_strings(std::string_view text) {
  std::vector<std::string> strings;
  for (size_t open = text.find('"'); open != std::string_view::npos;) {
    const size_t close = text.find('"', open + 1);
    if (close == std::string_view::npos || strings.size() == kOperandLimit) break;
    strings.emplace_back(text.substr(open + 1, close - open - 1));
    open = text.find('"', close + 1);
  }
  return strings;
}

}  // namespace

void fuse(CollectiveFacts& facts, const CollectiveFacts& call) {
  const auto to_one_peer = [](const std::string& function) {
    return function == "send" || function == "recv" || function == "sendrecv";
  };
  if (facts.function != call.function) {
    const bool exchange = to_one_peer(facts.function) && to_one_peer(call.function);
    facts.function = exchange ? "sendrecv" : "unknown";
  }
  if (facts.dtype != call.dtype) facts.dtype.clear();
  int64_t sum = 0;
  const bool known =
      facts.bytes && call.bytes && !__builtin_add_overflow(*facts.bytes, *call.bytes, &sum);
  facts.bytes = known ? std::optional<int64_t>(sum) : std::nullopt;
  facts.peer.reset();
  facts.sequence.reset();
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string collective_function(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kParts{
      {{"reducescatter", "reduce_scatter"},
       {"allreduce", "allreduce"},
       {"allgather", "allgather"},
       {"alltoall", "alltoall"},
       {"broadcast", "broadcast"},
       {"barrier", "barrier"},
       {"gather", "gather"},
       {"scatter", "scatter"},
       {"reduce", "reduce"},
       {"sendrecv", "sendrecv"},
       {"send", "send"},
       {"recv", "recv"}}};
  const std::string letters = letters_lower(name);
  for (const auto& [part, function] : kParts) {
    if (letters.find(part) != std::string::npos) return std::string(function);
  }
  return {};
}

namespace {

struct ElementType {
  std::string_view letters;  // of the framework's name, in lower case
  int64_t bytes;
  std::string_view word;  // in table gemm; empty: no type of weights
};

const ElementType* element_type(std::string_view dtype) {
  static constexpr std::array<ElementType, 41> kTypes{{{"float", 4, "fp32"},
                                                       {"float32", 4, "fp32"},
                                                       {"double", 8, "fp64"},
                                                       {"float64", 8, "fp64"},
                                                       {"half", 2, "fp16"},
                                                       {"c10half", 2, "fp16"},
                                                       {"float16", 2, "fp16"},
                                                       {"bfloat16", 2, "bf16"},
                                                       {"c10bfloat16", 2, "bf16"},
                                                       {"bf16", 2, "bf16"},
                                                       {"int", 4, ""},
                                                       {"int32", 4, ""},
                                                       {"longint", 8, ""},
                                                       {"long", 8, ""},
                                                       {"int64", 8, ""},
                                                       {"short", 2, ""},
                                                       {"shortint", 2, ""},
                                                       {"int16", 2, ""},
                                                       {"char", 1, "int8"},
                                                       {"signedchar", 1, "int8"},
                                                       {"unsignedchar", 1, ""},
                                                       {"byte", 1, ""},
                                                       {"int8", 1, "int8"},
                                                       {"uint8", 1, ""},
                                                       {"bool", 1, ""},
                                                       {"uint32", 4, ""},
                                                       {"uint64", 8, ""},
                                                       {"float8", 1, "fp8"},
                                                       {"float8e4m3", 1, "fp8"},
                                                       {"c10float8e4m3fn", 1, "fp8"},
                                                       {"c10float8e5m2", 1, "fp8"},
                                                       {"float8e4m3fn", 1, "fp8"},
                                                       {"float8e5m2", 1, "fp8"},
                                                       {"c10float8e4m3fnuz", 1, "fp8"},
                                                       {"c10float8e5m2fnuz", 1, "fp8"},
                                                       {"fp16", 2, "fp16"},
                                                       {"fp32", 4, "fp32"},
                                                       {"fp8", 1, "fp8"},
                                                       {"c10complexfloat", 8, ""},
                                                       {"c10qint8", 1, "int8"},
                                                       {"unsignedint", 4, ""}}};
  std::string letters = letters_lower(dtype);
  if (letters.starts_with("nccl")) letters.erase(0, 4);
  const auto* found = std::ranges::find(kTypes, letters, &ElementType::letters);
  return found == kTypes.end() ? nullptr : found;
}

}  // namespace

std::optional<int64_t> dtype_bytes(std::string_view dtype) {
  const ElementType* type = element_type(dtype);
  if (type == nullptr) return std::nullopt;
  return type->bytes;
}

std::string_view weight_dtype(std::string_view dtype) {
  const ElementType* type = element_type(dtype);
  return type == nullptr ? std::string_view() : type->word;
}

uint32_t OperandTable::add(std::string_view dims, std::string_view types) {
  // "[[], [], []]" has no shape; a digit must be in it.
  if (std::ranges::none_of(dims, [](char c) { return c >= '0' && c <= '9'; })) return 0;
  key_.assign(dims);
  key_ += '\n';
  key_ += types;
  if (const auto found = known_.find(key_); found != known_.end()) return found->second;
  if (lists_.size() > kLimit) return 0;
  std::vector<Operand> operands = parse_dims(dims);
  const std::vector<std::string> names = parse_strings(types);
  // Tensor lists have one type for several shapes; the types then fit only by position from the
  // front.
  for (size_t i = 0; i < operands.size() && i < names.size(); ++i) operands[i].dtype = names[i];
  lists_.push_back(std::move(operands));
  const auto index = static_cast<uint32_t>(lists_.size() - 1);
  known_.emplace(key_, index);
  return index;
}

}  // namespace preserve::gpu
