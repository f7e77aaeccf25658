// SPDX-License-Identifier: Apache-2.0
// What an operator reads and writes, and the shape of its matrix product, by the shapes that a
// framework recorded with it: linear, matrix product, attention, embedding. Pure arithmetic; sizes
// in bytes, overflow means unknown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/trace_db.h"
#include "profiler/gpu/kernel_rules.h"
#include "profiler/gpu/records.h"

namespace preserve::gpu {

struct OperandBytes {
  std::string word;  // weight, bias, input, key, value, output
  TensorRole role = TensorRole::unknown;
  int64_t tensor_bytes = 0;  // size of the tensor
  int64_t access_bytes = 0;  // how much of it is touched
  AccessMode mode = AccessMode::read;
};

// `op_name` is the framework's operator ("aten::addmm"), `kernel_name` gives the element type where
// the shapes have none. Empty when nothing can be said.
std::vector<OperandBytes> operand_bytes(std::string_view op_name, std::string_view kernel_name,
                                        KernelClass kernel_class,
                                        const std::vector<Operand>& operands);

// A product of activations (m x k) and weights (n x k).
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  std::string_view dtype{};  // of the weights, in the words of table gemm; empty: unknown
};

// Nothing for other operators, for products of activations, and where the operands do not fit each
// other (weights packed into another type).
std::optional<ProductShape> product_shape(std::string_view op_name, std::string_view kernel_name,
                                          KernelClass kernel_class,
                                          const std::vector<Operand>& operands);

// What a call of a collective sends, by its first tensor (source "shapes"). Nothing without one.
std::optional<CollectiveFacts> message_of(const std::vector<Operand>& operands);

}  // namespace preserve::gpu
