// SPDX-License-Identifier: Apache-2.0
// The operators of a Llama block on one rank, fp32, row-major, batched over rows (a row is one
// token of one sequence). Matrix products run in OpenBLAS.
#pragma once

#include <cstdint>

namespace tp_decoder {

void set_blas_threads(int threads);

// y[rows][outputs] = x[rows][inputs] * w[outputs][inputs]^T + bias; bias may be null.
void linear(const float* x, const float* w, const float* bias, int64_t rows, int64_t inputs,
            int64_t outputs, float* y);

// residual += delta, then out = residual / rms(residual) * weight. One pass, as engines fuse it.
void add_rms_norm(float* residual, const float* delta, const float* weight, float eps, int64_t rows,
                  int64_t width, float* out);

// Rotates `heads` heads of `head_dim` at `x` by one position's angles: element i with i +
// head_dim/2.
void rope(float* x, const float* cosine, const float* sine, int64_t heads, int64_t head_dim);

// out[rows][width] = silu(gate) * up, from gate_up[rows][2 * width].
void swiglu(const float* gate_up, int64_t rows, int64_t width, float* out);

// Attention of a group of query heads that share one key and value head. Keys and values of
// consecutive tokens are `stride` floats apart. scores: room for group * tokens floats.
struct HeadGroup {
  const float* queries;  // [group][head_dim]
  const float* keys;
  const float* values;
  int64_t stride;
  int64_t group, head_dim, tokens;
};
void attend(const HeadGroup& heads, float* scores, float* out);

}  // namespace tp_decoder
