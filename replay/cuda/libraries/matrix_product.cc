// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/libraries/matrix_product.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/rounded_up.h"
#include "replay/cuda/device_memory.h"
#include "replay/cuda/error.h"
#include "replay/cuda/libraries/shared_library.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace preserve::cuda {
namespace {

constexpr size_t kMostWorkspaceBytes = size_t{32} << 20;
constexpr uint32_t kWeightAlignment = 16;  // all that GpuRange guarantees
constexpr int64_t kRowBlock = 16;          // rows that 8-bit types may have to be padded to

struct Types {
  cudaDataType_t operand, result, scale;
  cublasComputeType_t compute;
  size_t operand_bytes, result_bytes;
};

Types types_of(GpuElement element) {
  switch (element) {
    case GpuElement::fp16:
      return {CUDA_R_16F, CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2, 2};
    case GpuElement::bf16:
      return {CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2, 2};
    case GpuElement::fp8:
      return {CUDA_R_8F_E4M3, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, 1, 2};
    case GpuElement::int8:
      return {CUDA_R_8I, CUDA_R_32I, CUDA_R_32I, CUBLAS_COMPUTE_32I, 1, 4};
  }
  throw internal_error("unknown element type");
}

}  // namespace

struct MatrixProducts::Product {
  Types types{};
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t weights = nullptr, activations = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  Scratch scratch;
};

struct MatrixProducts::Library {
  SharedLibrary library{{.sonames = {"libcublasLt.so.13", "libcublasLt.so.12"},
                         .variable = "PRESERVE_CUBLASLT",
                         .wheel_folders = {"nvidia/cu13/lib", "nvidia/cublas/lib"}}};
  decltype(&cublasLtCreate) create = library.need("cublasLtCreate");
  decltype(&cublasLtDestroy) destroy = library.need("cublasLtDestroy");
  decltype(&cublasLtGetStatusString) status_string = library.need("cublasLtGetStatusString");
  decltype(&cublasLtMatmulDescCreate) description_create = library.need("cublasLtMatmulDescCreate");
  decltype(&cublasLtMatmulDescDestroy) description_destroy =
      library.need("cublasLtMatmulDescDestroy");
  decltype(&cublasLtMatmulDescSetAttribute) description_set =
      library.need("cublasLtMatmulDescSetAttribute");
  decltype(&cublasLtMatrixLayoutCreate) layout_create = library.need("cublasLtMatrixLayoutCreate");
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy =
      library.need("cublasLtMatrixLayoutDestroy");
  decltype(&cublasLtMatmulPreferenceCreate) preference_create =
      library.need("cublasLtMatmulPreferenceCreate");
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy =
      library.need("cublasLtMatmulPreferenceDestroy");
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set =
      library.need("cublasLtMatmulPreferenceSetAttribute");
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic =
      library.need("cublasLtMatmulAlgoGetHeuristic");
  decltype(&cublasLtMatmul) multiply = library.need("cublasLtMatmul");

  std::string problem;  // empty: usable
  cublasLtHandle_t handle = nullptr;
  using Shape = std::tuple<int64_t, int64_t, int64_t, GpuElement>;
  std::map<Shape, Product> products;

  Library() {
    if (!library.found()) {
      problem = library.problem();
      return;
    }
    const cublasStatus_t status = create(&handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
      problem = fmt::format("cublasLtCreate: {}", status_string(status));
    }
  }
  ~Library() {
    for (auto& [shape, product] : products) release(product);
    if (handle != nullptr) destroy(handle);
  }

  void check(cublasStatus_t status, const char* call) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw internal_error("{}: {}", call, status_string(status));
  }

  // cuBLASLt counts in columns: a row of ours is a column of its, and the result is transposed.
  void describe(Product& product, int64_t rows, int64_t n, int64_t k) {
    const Types& types = product.types;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(description_create(&product.description, types.compute, types.scale),
          "cublasLtMatmulDescCreate");
    check(description_set(product.description, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                          sizeof(transposed)),
          "cublasLtMatmulDescSetAttribute");
    const auto unsigned_of = [](int64_t value) { return static_cast<uint64_t>(value); };
    check(layout_create(&product.weights, types.operand, unsigned_of(k), unsigned_of(n), k),
          "cublasLtMatrixLayoutCreate");
    check(layout_create(&product.activations, types.operand, unsigned_of(k), unsigned_of(rows), k),
          "cublasLtMatrixLayoutCreate");
    check(layout_create(&product.result, types.result, unsigned_of(n), unsigned_of(rows), n),
          "cublasLtMatrixLayoutCreate");
    product.scratch = {.activation_bytes = unsigned_of(rows * k) * types.operand_bytes,
                       .result_bytes = unsigned_of(rows * n) * types.result_bytes};
  }

  bool choose_algorithm(Product& product) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return preference_set(preference, attribute, &value, sizeof(value));
    };
    cublasLtMatmulHeuristicResult_t chosen{};
    int found = 0;
    cublasStatus_t status =
        set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMostWorkspaceBytes});
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kWeightAlignment);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = heuristic(handle, product.description, product.weights, product.activations,
                         product.result, product.result, preference, 1, &chosen, &found);
    }
    preference_destroy(preference);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE)
      return false;
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0 || chosen.state != CUBLAS_STATUS_SUCCESS) return false;
    product.algorithm = chosen.algo;
    product.scratch.workspace_bytes = chosen.workspaceSize;
    return true;
  }

  void release(Product& product) {
    if (product.description != nullptr) description_destroy(product.description);
    for (const cublasLtMatrixLayout_t layout :
         {product.weights, product.activations, product.result}) {
      if (layout != nullptr) layout_destroy(layout);
    }
    product = {};
  }

  cublasStatus_t run(const Product& product, const void* weights, const void* activations,
                     void* result, void* workspace, cudaStream_t stream) const {
    const float one = 1, zero = 0;
    const int32_t int_one = 1, int_zero = 0;
    const bool integers = product.types.scale == CUDA_R_32I;
    const void* alpha = integers ? static_cast<const void*>(&int_one) : &one;
    const void* beta = integers ? static_cast<const void*>(&int_zero) : &zero;
    return multiply(handle, product.description, alpha, weights, product.weights, activations,
                    product.activations, beta, result, product.result, result, product.result,
                    &product.algorithm, workspace, product.scratch.workspace_bytes, stream);
  }

  // A library that is older than the GPU may choose an algorithm and have no code for it.
  bool runs(const Product& product, size_t weight_bytes) const {
    const DeviceMemory weights(weight_bytes), activations(product.scratch.activation_bytes),
        result(product.scratch.result_bytes),
        workspace(std::max<size_t>(product.scratch.workspace_bytes, 1));
    const cublasStatus_t status =
        run(product, weights.get(), activations.get(), result.get(), workspace.get(), nullptr);
    PRESERVE_CUDA_CALL(cudaDeviceSynchronize);
    return status == CUBLAS_STATUS_SUCCESS;
  }

  // False where there is no algorithm; then `product` is empty again.
  bool try_prepare(Product& product, int64_t rows, int64_t n, int64_t k, GpuElement element) {
    product.types = types_of(element);
    try {
      describe(product, rows, n, k);
      if (choose_algorithm(product)) return true;
    } catch (...) {
      release(product);
      throw;
    }
    release(product);
    return false;
  }
};

MatrixProducts::MatrixProducts() = default;
MatrixProducts::~MatrixProducts() = default;

MatrixProducts::Library& MatrixProducts::need() {
  if (!library_) library_ = std::make_unique<Library>();
  if (!library_->problem.empty()) {
    throw input_error(
        "cannot load cuBLASLt: {}; install it, or name the library in PRESERVE_CUBLASLT or a "
        "Python "
        "environment's site-packages folder that has it in PRESERVE_SITE_PACKAGES",
        library_->problem);
  }
  return *library_;
}

bool MatrixProducts::can_multiply(GpuElement element) {
  if (!library_) library_ = std::make_unique<Library>();
  if (!library_->problem.empty()) return false;
  constexpr int64_t kSide = 512;
  Product product;
  const bool can =
      library_->try_prepare(product, kRowBlock, kSide, kSide, element) &&
      library_->runs(product, static_cast<size_t>(kSide * kSide) * product.types.operand_bytes);
  library_->release(product);
  return can;
}

const MatrixProducts::Product& MatrixProducts::prepare(int64_t m, int64_t n, int64_t k,
                                                       GpuElement element) {
  Library& library = need();
  const auto [at, is_new] = library.products.try_emplace({m, n, k, element});
  if (!is_new) return at->second;
  const int64_t padded = rounded_up(m, kRowBlock);
  if (library.try_prepare(at->second, m, n, k, element) ||
      library.try_prepare(at->second, padded, n, k, element)) {
    return at->second;
  }
  library.products.erase(at);
  throw input_error("cuBLASLt has no algorithm for {} by {} by {} in {} on this GPU", m, n, k,
                    word_of(kGpuElementWords, element));
}

MatrixProducts::Scratch MatrixProducts::scratch(const Product& product) {
  return product.scratch;
}

void MatrixProducts::enqueue(const Product& product, const void* weights, const void* activations,
                             void* result, void* workspace, cudaStream_t stream) {
  Library& library = need();
  library.check(library.run(product, weights, activations, result, workspace, stream),
                "cublasLtMatmul");
}

}  // namespace preserve::cuda

#else  // no cublasLt.h when this was built

namespace preserve::cuda {
namespace {
Error no_header() {
  return input_error("built without cublasLt.h: build with cuBLAS's headers to replay products");
}
}  // namespace
struct MatrixProducts::Product {};
struct MatrixProducts::Library {};
MatrixProducts::MatrixProducts() = default;
MatrixProducts::~MatrixProducts() = default;
MatrixProducts::Library& MatrixProducts::need() {
  throw no_header();
}
bool MatrixProducts::can_multiply(GpuElement) {
  return false;
}
const MatrixProducts::Product& MatrixProducts::prepare(int64_t, int64_t, int64_t, GpuElement) {
  throw no_header();
}
MatrixProducts::Scratch MatrixProducts::scratch(const Product&) {
  return {};
}
void MatrixProducts::enqueue(const Product&, const void*, const void*, void*, void*, cudaStream_t) {
  throw no_header();
}

}  // namespace preserve::cuda
#endif
