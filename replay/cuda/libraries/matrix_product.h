// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt, found at run time: PRESERVE_CUBLASLT, PyTorch's wheels, the toolkit,
// the system. result (m x n) = activations (m x k) by transposed weights (n x k), rows contiguous.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "common/no_copy.h"
#include "replay/gpu/device.h"

namespace preserve::cuda {

class MatrixProducts : NoCopy {
 public:
  MatrixProducts();  // loads nothing yet
  ~MatrixProducts();

  // A shape with the algorithm that cuBLASLt chose for it.
  struct Product;
  struct Scratch {
    size_t activation_bytes = 0, result_bytes = 0, workspace_bytes = 0;
  };

  // False where cuBLASLt is missing, or cannot run one for the type on the current device: tried.
  bool can_multiply(GpuElement element);
  // Chosen once per shape. input_error when cuBLASLt or an algorithm is missing.
  const Product& prepare(int64_t m, int64_t n, int64_t k, GpuElement element);
  static Scratch scratch(const Product& product);
  void enqueue(const Product& product, const void* weights, const void* activations, void* result,
               void* workspace, cudaStream_t stream);

 private:
  struct Library;
  Library& need();
  std::unique_ptr<Library> library_;
};

}  // namespace preserve::cuda
