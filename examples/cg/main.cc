// SPDX-License-Identifier: Apache-2.0
// cg: the conjugate-gradient method of HPCG on MPI ranks, each with a box of n x n x n points on
// top of the last one's. Solves A x = b for b = A (1, 1, ...) in a fixed number of iterations.
//
// Result file: the line "cg-result 1 RANKS SIDE ITERATIONS", then the square of the residual after
// each iteration and the solution of rank 0, 1, ..., all as native 64-bit floating-point numbers.
#include <mpi.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "examples/cg/stencil.h"

namespace {

using cg::Stencil;

constexpr const char* kUsage = "usage: mpirun -n RANKS cg SIDE ITERATIONS RESULT-FILE\n";
constexpr int kBadInput = 2;

struct World {
  int rank = 0, ranks = 1;
};

double dot(const std::vector<double>& a, const double* b) {
  double mine = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i) mine += a[i] * b[i];
  MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

// The neighbours' nearest layers into both halos.
void exchange(const Stencil& a, const World& world, std::vector<double>& x) {
  const int below = world.rank > 0 ? world.rank - 1 : MPI_PROC_NULL;
  const int above = world.rank + 1 < world.ranks ? world.rank + 1 : MPI_PROC_NULL;
  const int count = static_cast<int>(a.layer);
  double* first = x.data() + a.layer;
  double* last = x.data() + a.rows;
  MPI_Sendrecv(first, count, MPI_DOUBLE, below, 0, last + a.layer, count, MPI_DOUBLE, above, 0,
               MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  MPI_Sendrecv(last, count, MPI_DOUBLE, above, 1, x.data(), count, MPI_DOUBLE, below, 1,
               MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

struct Solution {
  std::vector<double> x;          // of this rank
  std::vector<double> residuals;  // squared, after each iteration
};

Solution solve(const Stencil& a, const World& world, int iterations) {
  const auto rows = static_cast<size_t>(a.rows);
  const auto with_halo = static_cast<size_t>(a.rows + 2 * a.layer);
  Solution solution{std::vector<double>(rows), {}};
  std::vector<double> r(rows), ap(rows), z(with_halo), p(with_halo);
  // b = A (1, 1, ...): what a row's entries add up to; x begins as 0, so r = b.
  std::ranges::fill(p, 1.0);
  multiply(a, p, r);
  std::ranges::fill(p, 0.0);
  double rz = 0;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    precondition(a, r, z);
    const double before = rz;
    rz = dot(r, z.data() + a.layer);
    const double beta = before == 0 ? 0 : rz / before;
    for (size_t i = 0; i < with_halo; ++i) p[i] = z[i] + beta * p[i];
    exchange(a, world, p);
    multiply(a, p, ap);
    const double alpha = rz / dot(ap, p.data() + a.layer);
    for (size_t i = 0; i < rows; ++i) {
      solution.x[i] += alpha * p[i + static_cast<size_t>(a.layer)];
      r[i] -= alpha * ap[i];
    }
    solution.residuals.push_back(dot(r, r.data()));
  }
  return solution;
}

// On rank 0, which receives the others' parts one by one; false when the file cannot be written.
bool write_result(const char* path, const Stencil& a, const World& world, int iterations,
                  Solution& solution) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "wb"), &std::fclose);
  bool good = file != nullptr;
  const auto put = [&](const std::vector<double>& numbers) {
    good = good && std::fwrite(numbers.data(), sizeof(double), numbers.size(), file.get()) ==
                       numbers.size();
  };
  if (good) {
    std::fprintf(file.get(), "cg-result 1 %d %d %d\n", world.ranks, a.side, iterations);
  }
  put(solution.residuals);
  put(solution.x);
  for (int other = 1; other < world.ranks; ++other) {
    MPI_Recv(solution.x.data(), static_cast<int>(a.rows), MPI_DOUBLE, other, 2, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    put(solution.x);
  }
  return good && std::fflush(file.get()) == 0;
}

bool read_number(const char* text, int least, int most, int& number) {
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  return error == std::errc() && stop == end && number >= least && number <= most;
}

int run(int argc, char** argv, const World& world) {
  int side = 0, iterations = 0;
  if (argc != 4 || !read_number(argv[1], 2, 256, side) ||
      !read_number(argv[2], 1, 1'000'000, iterations)) {
    if (world.rank == 0) std::fputs(kUsage, stderr);
    return kBadInput;
  }
  const Stencil a(side, world.rank, world.ranks);
  const double begin_s = MPI_Wtime();
  Solution solution = solve(a, world, iterations);
  const double spent_s = MPI_Wtime() - begin_s;
  if (world.rank != 0) {
    MPI_Send(solution.x.data(), static_cast<int>(a.rows), MPI_DOUBLE, 0, 2, MPI_COMM_WORLD);
    return 0;
  }
  std::printf("cg: %d ranks of %d^3 points, %d iterations, %.3f ms each\n", world.ranks, side,
              iterations, spent_s / iterations * 1e3);
  std::printf("residual: %.17g\n", std::sqrt(solution.residuals.back()));
  if (write_result(argv[3], a, world, iterations, solution)) return 0;
  std::fprintf(stderr, "cg: error: cannot write %s\n", argv[3]);
  return kBadInput;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);  // MPI's default error handler ends the job: no return code to check
  World world;
  MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world.ranks);
  const int code = run(argc, argv, world);
  MPI_Finalize();
  return code;
}
