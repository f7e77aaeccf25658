// SPDX-License-Identifier: Apache-2.0
// The matrix of HPCG (Dongarra, Heroux, Luszczek 2016) on one rank's layers of a box of n x n x n
// points per rank: 26 on the diagonal, -1 for each of up to 26 neighbours.
#pragma once

#include <cstdint>
#include <vector>

namespace cg {

struct Stencil {
  Stencil(int side, int rank, int ranks);

  int side;
  int64_t rows;   // of this rank; a vector with halo has a layer more in front and behind
  int64_t layer;  // points of one layer
  // Row i has the entries [begin[i], begin[i + 1]); columns count within a vector with halo.
  std::vector<int64_t> begin;
  std::vector<int32_t> columns;
  std::vector<double> values;
};

// y = A x; `x` with halo, `y` without.
void multiply(const Stencil& a, const std::vector<double>& x, std::vector<double>& y);
// z = one symmetric Gauss-Seidel sweep for A z = r, from zero, of this rank's rows alone. `z` is as
// long as a vector with halo and keeps zeros there.
void precondition(const Stencil& a, const std::vector<double>& r, std::vector<double>& z);

}  // namespace cg
