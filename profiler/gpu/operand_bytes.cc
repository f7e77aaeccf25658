// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/operand_bytes.h"

#include <algorithm>

namespace preserve::gpu {
namespace {

constexpr double kHostShapes = 0.7;  // shape of the first tensor of the host call

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Element size that a kernel's name gives away; 0 when it does not.
int64_t bytes_of_kernel_type(std::string_view kernel_name) {
  const std::string name = lower_case(kernel_name);
  const auto has_any = [&](std::initializer_list<const char*> parts) {
    return std::ranges::any_of(parts, [&](const char* part) { return contains(name, part); });
  };
  if (has_any({"e4m3", "e5m2", "fp8", "float8", "i8816", "int8"})) return 1;
  if (has_any({"bf16", "bfloat16", "f16", "half", "hss", "hhs", "tst", "s16816", "_bbs_"}))
    return 2;
  return has_any({"sgemm", "f32", "float", "tf32"}) ? 4 : 0;
}

class Shapes {
 public:
  Shapes(const std::vector<Operand>& operands, std::string_view kernel_name)
      : operands_(operands), fallback_bytes_(bytes_of_kernel_type(kernel_name)) {}

  size_t rank(size_t index) const {
    return index < operands_.size() ? operands_[index].dims.size() : 0;
  }
  int64_t dim(size_t index, size_t from_back) const {
    const auto& dims = operands_[index].dims;
    return dims[dims.size() - 1 - from_back];
  }
  // 0 when the operand has no shape, a bad one, or no known element type.
  int64_t bytes(size_t index) const {
    return index < operands_.size() ? bytes_of(operands_[index].dims, element_bytes(index)) : 0;
  }
  int64_t element_bytes(size_t index) const {
    const auto known = dtype_bytes(operands_[index].dtype);
    return known ? *known : operands_[index].dtype.empty() ? fallback_bytes_ : 0;
  }
  static int64_t bytes_of(const std::vector<int64_t>& dims, int64_t element_bytes) {
    int64_t bytes = dims.empty() ? 0 : element_bytes;
    for (const int64_t dim : dims) {
      if (dim <= 0 || __builtin_mul_overflow(bytes, dim, &bytes)) return 0;
    }
    return bytes;
  }
  const std::string& dtype(size_t index) const { return operands_[index].dtype; }
  size_t size() const { return operands_.size(); }

 private:
  const std::vector<Operand>& operands_;
  int64_t fallback_bytes_;
};

void add(std::vector<OperandBytes>& out, const char* word, TensorRole role, int64_t bytes,
         AccessMode mode = AccessMode::read) {
  if (bytes > 0) out.push_back({word, role, bytes, bytes, mode});
}

// input (.., M, K) times weight, which has N columns; `bias` may be past the end.
struct Product {
  size_t input, weight, bias;
  int64_t columns;
  TensorRole weight_role = TensorRole::weight;
  bool certain = true;  // false: which operand is the input and which the output is a guess
};

std::vector<OperandBytes> product_bytes(const Shapes& shapes, const Product& product) {
  std::vector<OperandBytes> out;
  add(out, product.weight_role == TensorRole::weight ? "weight" : "other", product.weight_role,
      shapes.bytes(product.weight));
  add(out, "bias", TensorRole::weight, shapes.bytes(product.bias));
  add(out, "input", TensorRole::activation, shapes.bytes(product.input));
  const int64_t inner = shapes.dim(product.input, 0);
  int64_t result = 0;
  if (inner > 0 && product.columns > 0 &&
      !__builtin_mul_overflow(shapes.bytes(product.input) / inner, product.columns, &result)) {
    add(out, "output", TensorRole::activation, result, AccessMode::write);
  }
  return out;
}

// Products of unfamiliar libraries: some two matrices share a dimension; the weight is the larger.
std::optional<Product> any_product(const Shapes& shapes) {
  size_t largest = shapes.size();
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (shapes.rank(i) == 2 &&
        (largest == shapes.size() || shapes.bytes(i) > shapes.bytes(largest))) {
      largest = i;
    }
  }
  if (largest == shapes.size()) return std::nullopt;
  // Some libraries take the output as an operand too. It has the weight's other dimension, and in
  // products of small types another type than the input.
  std::optional<Product> product;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (i == largest || shapes.rank(i) < 2) continue;
    const int64_t inner = shapes.dim(i, 0);
    if (inner != shapes.dim(largest, 0) && inner != shapes.dim(largest, 1)) continue;
    const int64_t columns =
        inner == shapes.dim(largest, 0) ? shapes.dim(largest, 1) : shapes.dim(largest, 0);
    const Product found{i, largest, shapes.size(), columns};
    const bool alike = shapes.dtype(i) == shapes.dtype(largest);
    if (!product || (alike && shapes.dtype(product->input) != shapes.dtype(largest))) {
      product = found;
    } else if (alike && columns != product->columns) {
      product->certain = false;
    }
  }
  return product;
}

// The framework's operators that are known by name. `op` in lower case, without its library.
std::optional<Product> known_product(std::string_view op, const Shapes& shapes) {
  const auto product_ranks = [&](size_t input, size_t weight) {
    return shapes.rank(input) >= 2 && shapes.rank(weight) == 2;
  };
  if (op == "linear" && product_ranks(0, 1)) return Product{0, 1, 2, shapes.dim(1, 1)};  // (N, K)
  if (op == "addmm" && product_ranks(1, 2)) return Product{1, 2, 0, shapes.dim(2, 0)};
  if ((op == "mm" || op == "matmul" || op == "_scaled_mm") && product_ranks(0, 1)) {
    return Product{0, 1, shapes.size(), shapes.dim(1, 0)};
  }
  if (op == "bmm" && shapes.rank(0) == 3 && shapes.rank(1) == 3) {  // activations, as a rule
    return Product{0, 1, shapes.size(), shapes.dim(1, 0), TensorRole::activation};
  }
  return std::nullopt;
}

bool is_attention(std::string_view op, KernelClass kernel_class) {
  return contains(op, "attention") || contains(op, "attn") || contains(op, "mha") ||
         kernel_class == KernelClass::attention;
}

std::optional<Product> find_product(std::string_view op, KernelClass kernel_class,
                                    const Shapes& shapes) {
  if (const auto known = known_product(op, shapes)) return known;
  const bool other = contains(op, "backward") || is_attention(op, kernel_class) ||
                     op == "embedding" || contains(op, "moe") || contains(op, "expert") ||
                     kernel_class == KernelClass::experts;
  const bool product = kernel_class == KernelClass::matmul || contains(op, "mm") ||
                       contains(op, "gemm") || contains(op, "linear");
  return product && !other ? any_product(shapes) : std::nullopt;
}

// "aten::addmm" -> "addmm".
std::string short_name(std::string_view op_name) {
  const std::string op = lower_case(op_name);
  const size_t scope = op.rfind("::");
  return scope == std::string::npos ? op : op.substr(scope + 2);
}

// query, key, value are the first three operands that have a shape.
std::vector<OperandBytes> attention(const Shapes& shapes) {
  static constexpr const char* kWords[] = {"query", "key", "value"};
  std::vector<OperandBytes> out;
  size_t found = 0;
  for (size_t i = 0; i < shapes.size() && found < 3; ++i) {
    if (shapes.rank(i) < 3) continue;
    add(out, kWords[found], found == 0 ? TensorRole::activation : TensorRole::kv, shapes.bytes(i));
    ++found;
  }
  if (found > 0 && !out.empty() && out.front().word == "query") {
    add(out, "output", TensorRole::activation, out.front().tensor_bytes, AccessMode::write);
  }
  return out;
}

// table (V, D) and indices: as many rows as there are indices. Which rows is not known, so the role
// stays unknown: nobody should plan to fetch the head of the table.
std::vector<OperandBytes> embedding(const Shapes& shapes) {
  if (shapes.rank(0) != 2 || shapes.rank(1) == 0) return {};
  OperandBytes table{"table", TensorRole::unknown, shapes.bytes(0), 0, AccessMode::read};
  int64_t rows = shapes.bytes(1);
  if (table.tensor_bytes <= 0 || rows <= 0 || shapes.element_bytes(1) <= 0) return {};
  rows /= shapes.element_bytes(1);
  if (__builtin_mul_overflow(rows, table.tensor_bytes / std::max<int64_t>(1, shapes.dim(0, 1)),
                             &table.access_bytes)) {
    return {};
  }
  table.access_bytes = std::min(table.access_bytes, table.tensor_bytes);
  return {table};
}

}  // namespace

std::vector<OperandBytes> operand_bytes(std::string_view op_name, std::string_view kernel_name,
                                        KernelClass kernel_class,
                                        const std::vector<Operand>& operands) {
  const Shapes shapes(operands, kernel_name);
  const std::string op = short_name(op_name);
  if (const auto product = find_product(op, kernel_class, shapes)) {
    return product_bytes(shapes, *product);
  }
  if (contains(op, "backward")) return {};
  if (is_attention(op, kernel_class)) return attention(shapes);
  if (op == "embedding") return embedding(shapes);
  return {};
}

std::optional<ProductShape> product_shape(std::string_view op_name, std::string_view kernel_name,
                                          KernelClass kernel_class,
                                          const std::vector<Operand>& operands) {
  const Shapes shapes(operands, kernel_name);
  const auto product = find_product(short_name(op_name), kernel_class, shapes);
  if (!product || !product->certain || product->weight_role != TensorRole::weight) {
    return std::nullopt;
  }
  ProductShape shape;
  shape.k = shapes.dim(product->input, 0);
  shape.n = product->columns;
  const int64_t elements = Shapes::bytes_of(operands[product->input].dims, 1);
  const int64_t weights = Shapes::bytes_of(operands[product->weight].dims, 1);
  if (elements <= 0 || weights <= 0 || shape.n <= 0) return std::nullopt;
  shape.m = elements / shape.k;
  if (weights / shape.n != shape.k || weights % shape.n != 0) return std::nullopt;
  shape.dtype = weight_dtype(operands[product->weight].dtype);
  return shape;
}

std::optional<CollectiveFacts> message_of(const std::vector<Operand>& operands) {
  // Collective calls put their tensor first; lists and scalars have no dimensions.
  const auto tensor =
      std::ranges::find_if(operands, [](const Operand& each) { return !each.dims.empty(); });
  if (tensor == operands.end()) return std::nullopt;
  CollectiveFacts facts{.dtype = tensor->dtype, .source = "shapes", .confidence = kHostShapes};
  int64_t count = 1;
  for (const int64_t dim : tensor->dims) {
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count)) return facts;
  }
  facts.in_elements = count;
  return facts;
}

}  // namespace preserve::gpu
