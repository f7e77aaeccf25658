// SPDX-License-Identifier: Apache-2.0
// The processes of a replay or calibration, one per rank, and what they say to each other outside
// the timed regions; and the recorded collectives, repeated for real over MPI inside them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace preserve {

// MPI from construction to destruction; one per process.
class Ranks {
 public:
  Ranks();
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int rank_on_host() const { return rank_on_host_; }  // 0.. among the ranks of this host
  int size_on_host() const { return size_on_host_; }
  std::string library() const;  // "Open MPI v4.1.4"

  // Ends all ranks at once with this exit code: after an error the others would wait for ever.
  [[noreturn]] void abort(int exit_code) const;

  void barrier() const;
  int64_t max(int64_t value) const;
  int64_t min(int64_t value) const;
  int64_t sum(int64_t value) const;
  int64_t from_first(int64_t value) const;  // rank 0's value, on every rank
  // All values of all ranks, rank by rank, on rank 0; empty elsewhere. Every rank gives equally
  // many.
  std::vector<double> gather(std::span<const double> values) const;
  // Texts of all ranks, on every rank.
  std::vector<std::string> all_texts(const std::string& text) const;

 private:
  int rank_ = 0, size_ = 1, rank_on_host_ = 0, size_on_host_ = 1;
};

// One recorded collective as a call that can be repeated. Buffers are its own, apart from the
// tensors.
class RankCollective {
 public:
  // `function` as recorded ("allreduce"), `bytes` of one rank. input_error naming the function when
  // it is none that can be repeated.
  RankCollective(const std::string& function, int64_t bytes, int ranks);
  ~RankCollective();
  RankCollective(RankCollective&&) noexcept;
  RankCollective& operator=(RankCollective&&) = delete;
  RankCollective(const RankCollective&) = delete;
  RankCollective& operator=(const RankCollective&) = delete;

  static bool known(const std::string& function);
  int64_t buffer_bytes() const;
  void run();    // the blocking call
  void start();  // the non-blocking call
  bool test();   // true when the started call is complete

 private:
  struct Call;
  std::unique_ptr<Call> call_;
};

// Cost of one MPI_Test on a request that is not complete, ns per call.
double measure_test_cost_ns(int calls);

}  // namespace preserve
