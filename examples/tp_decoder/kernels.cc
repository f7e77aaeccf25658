// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/kernels.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

// OpenBLAS's own start and end, exported where it chooses its kernels at run time.
extern "C" void gotoblas_dynamic_init() __attribute__((weak));
extern "C" void gotoblas_dynamic_quit() __attribute__((weak));

namespace tp_decoder {
namespace {

blasint blas(int64_t value) {
  return static_cast<blasint>(value);
}

// y = beta * y + x * w^T, with rows of w `stride` apart. One row is a matrix-vector product:
// reading w once is all it does, which is why decoding is bound by memory.
void multiply_transposed(const float* x, const float* w, int64_t stride, int64_t rows,
                         int64_t inputs, int64_t outputs, float alpha, float beta, float* y) {
  if (rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, blas(outputs), blas(inputs), alpha, w, blas(stride), x,
                1, beta, y, 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(rows), blas(outputs), blas(inputs),
                alpha, x, blas(inputs), w, blas(stride), beta, y, blas(outputs));
  }
}

void softmax(float* values, int64_t count) {
  const float highest = *std::max_element(values, values + count);
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    values[i] = std::exp(values[i] - highest);
    sum += values[i];
  }
  cblas_sscal(blas(count), 1 / sum, values, 1);
}

// On a processor newer than itself OpenBLAS takes its oldest kernels, which are slower than memory.
void use_vector_kernels() {
#ifdef __x86_64__
  if (gotoblas_dynamic_init == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  if (std::strcmp(openblas_get_corename(), "Prescott") != 0) return;
  const char* kernels = __builtin_cpu_supports("avx512bw") ? "SkylakeX"
                        : __builtin_cpu_supports("avx2")   ? "Haswell"
                                                           : nullptr;
  if (kernels == nullptr) return;
  setenv("OPENBLAS_CORETYPE", kernels, 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv("OPENBLAS_CORETYPE");
#endif
}

}  // namespace

void set_blas_threads(int threads) {
  use_vector_kernels();
  openblas_set_num_threads(threads);
}

void linear(const float* x, const float* w, const float* bias, int64_t rows, int64_t inputs,
            int64_t outputs, float* y) {
  if (bias != nullptr) {
    for (int64_t row = 0; row < rows; ++row) std::copy_n(bias, outputs, y + row * outputs);
  }
  multiply_transposed(x, w, inputs, rows, inputs, outputs, 1, bias == nullptr ? 0.0f : 1.0f, y);
}

void add_rms_norm(float* residual, const float* delta, const float* weight, float eps, int64_t rows,
                  int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row, residual += width, delta += width, out += width) {
    for (int64_t i = 0; i < width; ++i) residual[i] += delta[i];
    const float squares = cblas_sdot(blas(width), residual, 1, residual, 1);
    const float scale = 1 / std::sqrt(squares / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; ++i) out[i] = residual[i] * scale * weight[i];
  }
}

void rope(float* x, const float* cosine, const float* sine, int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head, x += head_dim) {
    for (int64_t i = 0; i < half; ++i) {
      const float first = x[i], second = x[i + half];
      x[i] = first * cosine[i] - second * sine[i];
      x[i + half] = second * cosine[i] + first * sine[i];
    }
  }
}

void swiglu(const float* gate_up, int64_t rows, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row, gate_up += 2 * width, out += width) {
    for (int64_t i = 0; i < width; ++i) {
      const float gate = gate_up[i];
      out[i] = gate / (1 + std::exp(-gate)) * gate_up[width + i];
    }
  }
}

void attend(const HeadGroup& heads, float* scores, float* out) {
  const float scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
  multiply_transposed(heads.queries, heads.keys, heads.stride, heads.group, heads.head_dim,
                      heads.tokens, scale, 0, scores);
  for (int64_t i = 0; i < heads.group; ++i) softmax(scores + i * heads.tokens, heads.tokens);
  if (heads.group == 1) {
    cblas_sgemv(CblasRowMajor, CblasTrans, blas(heads.tokens), blas(heads.head_dim), 1,
                heads.values, blas(heads.stride), scores, 1, 0, out, 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas(heads.group), blas(heads.head_dim),
                blas(heads.tokens), 1, scores, blas(heads.tokens), heads.values, blas(heads.stride),
                0, out, blas(heads.head_dim));
  }
}

}  // namespace tp_decoder
