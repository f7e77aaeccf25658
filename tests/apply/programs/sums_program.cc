// SPDX-License-Identifier: Apache-2.0
// Steps of two allreduces, each of numbers that come from a table of its own, read several times
// over, and from what the allreduces before gave: one wrong bit is in all that follows. Prints a
// hash of all results.
// Plain MPI, no annotation. usage: sums_program STEPS
#include <mpi.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr int kNumbers = 1000, kTableNumbers = 200'000, kRounds = 8;

void fold(const std::vector<double>& table, double weight, double* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < table.size(); ++i) out[i % count] += weight * table[i];
    weight /= 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const int steps = argc == 2 ? std::atoi(argv[1]) : 0;
  std::vector<double> first(kTableNumbers), second(kTableNumbers + 512);
  for (size_t i = 0; i < first.size(); ++i)
    first[i] = 1.0 / static_cast<double>(i + 3 + size_t(rank));
  for (size_t i = 0; i < second.size(); ++i) second[i] = 1.0 / static_cast<double>(3 * i + 7);
  std::vector<double> numbers(kNumbers), sums(kNumbers);
  double weight = 1;
  uint64_t hash = 0xcbf29ce484222325;
  for (int step = 0; step < steps; ++step) {
    fold(first, weight, numbers.data(), kNumbers);
    MPI_Allreduce(numbers.data(), sums.data(), kNumbers, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    double largest = 0;
    fold(second, sums[static_cast<size_t>(step % kNumbers)], &largest, 1);
    MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    weight = 1 + 1 / (1 + largest);
    for (const double number : sums) {
      uint64_t bits = 0;
      std::memcpy(&bits, &number, sizeof(bits));
      hash = (hash ^ bits) * 0x100000001b3;
    }
  }
  if (rank == 0) std::printf("hash: %016llx\n", static_cast<unsigned long long>(hash));
  MPI_Finalize();
  return steps > 0 ? 0 : 2;
}
