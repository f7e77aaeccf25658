// SPDX-License-Identifier: Apache-2.0
#include "examples/cg/stencil.h"

#include <algorithm>

namespace cg {
namespace {

constexpr double kDiagonal = 26, kNeighbour = -1;

// Gauss-Seidel update of row i.
void relax(const Stencil& a, const std::vector<double>& r, std::vector<double>& z, int64_t i) {
  const auto row = static_cast<size_t>(i);
  double sum = r[row];
  for (auto e = static_cast<size_t>(a.begin[row]); e < static_cast<size_t>(a.begin[row + 1]); ++e) {
    sum -= a.values[e] * z[static_cast<size_t>(a.columns[e])];
  }
  double& own = z[static_cast<size_t>(i + a.layer)];
  own = (sum + kDiagonal * own) / kDiagonal;
}

}  // namespace

Stencil::Stencil(int edge, int rank, int ranks)
    : side(edge), rows(int64_t{edge} * edge * edge), layer(int64_t{edge} * edge) {
  const int depth = side * ranks;
  begin.push_back(0);
  for (int z = 0; z < side; ++z) {
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        for (int dz = -1; dz <= 1; ++dz) {
          for (int dy = -1; dy <= 1; ++dy) {
            for (int dx = -1; dx <= 1; ++dx) {
              const int there_z = rank * side + z + dz;
              if (there_z < 0 || there_z >= depth || y + dy < 0 || y + dy >= side || x + dx < 0 ||
                  x + dx >= side) {
                continue;
              }
              columns.push_back(
                  static_cast<int32_t>((z + dz + 1) * layer + (y + dy) * side + x + dx));
              values.push_back(dx == 0 && dy == 0 && dz == 0 ? kDiagonal : kNeighbour);
            }
          }
        }
        begin.push_back(static_cast<int64_t>(values.size()));
      }
    }
  }
}

void multiply(const Stencil& a, const std::vector<double>& x, std::vector<double>& y) {
  for (size_t i = 0; i < y.size(); ++i) {
    double sum = 0;
    for (auto e = static_cast<size_t>(a.begin[i]); e < static_cast<size_t>(a.begin[i + 1]); ++e) {
      sum += a.values[e] * x[static_cast<size_t>(a.columns[e])];
    }
    y[i] = sum;
  }
}

void precondition(const Stencil& a, const std::vector<double>& r, std::vector<double>& z) {
  std::ranges::fill(z, 0.0);
  for (int64_t i = 0; i < a.rows; ++i) relax(a, r, z, i);
  for (int64_t i = a.rows - 1; i >= 0; --i) relax(a, r, z, i);
}

}  // namespace cg
