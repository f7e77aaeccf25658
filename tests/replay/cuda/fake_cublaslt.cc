// SPDX-License-Identifier: Apache-2.0
// A libcublasLt.so.13 for the emulated GPU. It has algorithms for 16-bit types with any number of
// rows and for 8-bit integers with whole blocks of 16 rows, for large fp8 products one that has no
// code; a product touches all memory that it was given.
#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <deque>

#include "tests/support/stub.h"

namespace {

struct Description {
  cudaDataType_t scale;
  bool transposed = false;
};
struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
};
struct Product {
  const void* weights;
  const void* activations;
  void* result;
  void* workspace;
  size_t weight_bytes, activation_bytes, result_bytes, workspace_bytes;
};
constexpr size_t kWorkspaceBytes = 4096;

size_t bytes_of(cudaDataType_t type) {
  if (type == CUDA_R_8I || type == CUDA_R_8F_E4M3) return 1;
  return type == CUDA_R_32I ? 4 : 2;
}
size_t bytes_of(cublasLtMatrixLayout_t opaque) {
  const auto* layout = reinterpret_cast<const Layout*>(opaque);
  return layout->rows * layout->columns * bytes_of(layout->type);
}

void touch(void* data) {
  const auto* product = static_cast<const Product*>(data);
  unsigned sum = 0;
  const auto read = [&](const void* memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 4096) sum += static_cast<const uint8_t*>(memory)[at];
    sum += static_cast<const uint8_t*>(memory)[bytes - 1];
  };
  read(product->weights, product->weight_bytes);
  read(product->activations, product->activation_bytes);
  std::memset(product->result, static_cast<int>(sum % 100), product->result_bytes);
  std::memset(product->workspace, 1, product->workspace_bytes);
}

}  // namespace

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int library;
  *handle = reinterpret_cast<cublasLtHandle_t>(&library);
  return CUBLAS_STATUS_SUCCESS;
}
STUB(cublasStatus_t cublasLtDestroy(cublasLtHandle_t), CUBLAS_STATUS_SUCCESS)
STUB(const char* cublasLtGetStatusString(cublasStatus_t), "a status of the fake")

STUB(cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t,
                                             cudaDataType_t scale),
     *description = reinterpret_cast<cublasLtMatmulDesc_t>(new Description{scale}),
     CUBLAS_STATUS_SUCCESS)
STUB(cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description),
     delete reinterpret_cast<Description*>(description), CUBLAS_STATUS_SUCCESS)
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  int operation = 0;
  if (attribute != CUBLASLT_MATMUL_DESC_TRANSA || bytes != sizeof(operation)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  std::memcpy(&operation, value, bytes);
  reinterpret_cast<Description*>(description)->transposed = operation == CUBLAS_OP_T;
  return CUBLAS_STATUS_SUCCESS;
}
STUB(cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                               uint64_t rows, uint64_t columns, int64_t),
     *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns}),
     CUBLAS_STATUS_SUCCESS)
STUB(cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout),
     delete reinterpret_cast<Layout*>(layout), CUBLAS_STATUS_SUCCESS)
STUB(cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference),
     *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new int), CUBLAS_STATUS_SUCCESS)
STUB(cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference),
     delete reinterpret_cast<int*>(preference), CUBLAS_STATUS_SUCCESS)
STUB(cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                         cublasLtMatmulPreferenceAttributes_t,
                                                         const void*, size_t),
     CUBLAS_STATUS_SUCCESS)

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t* result, int* found) {
  const auto* weights = reinterpret_cast<const Layout*>(a);
  const auto* activations = reinterpret_cast<const Layout*>(b);
  *found = 0;
  if (weights->type == CUDA_R_8F_E4M3 && weights->rows < 512) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool fits = reinterpret_cast<const Description*>(description)->transposed &&
                    weights->rows == activations->rows && weights->type == activations->type;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  if (weights->type == CUDA_R_8I && activations->columns % 16 != 0) return CUBLAS_STATUS_SUCCESS;
  *found = 1;
  *result = {};
  result->state = CUBLAS_STATUS_SUCCESS;
  result->workspaceSize = kWorkspaceBytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void*, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t*, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  using Enqueue = void (*)(cudaStream_t, void (*)(void*), void*);
  auto enqueue = reinterpret_cast<Enqueue>(::dlsym(RTLD_DEFAULT, "emulated_cuda_enqueue"));
  if (enqueue == nullptr || workspace_bytes < kWorkspaceBytes) return CUBLAS_STATUS_INVALID_VALUE;
  if (reinterpret_cast<const Layout*>(a_layout)->type == CUDA_R_8F_E4M3) {
    return CUBLAS_STATUS_ARCH_MISMATCH;
  }
  static std::deque<Product> products;  // graphs run them again and again
  enqueue(stream, touch,
          &products.emplace_back(Product{a, b, d, workspace, bytes_of(a_layout), bytes_of(b_layout),
                                         bytes_of(d_layout), workspace_bytes}));
  return CUBLAS_STATUS_SUCCESS;
}
}
