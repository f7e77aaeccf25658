// SPDX-License-Identifier: Apache-2.0
// The processes of a replay or calibration, one per rank, and what they exchange outside
// the timed regions; and the recorded collectives, repeated for real inside them. One process alone
// needs nothing; several talk over MPI, which lives in a module of its own (mpi.cc), so that
// the tools start where no MPI is installed.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/no_copy.h"

namespace preserve {

// One recorded collective as a call that can be repeated. Buffers are its own, apart from the
// tensors.
class RankCollective : NoCopy {
 public:
  virtual ~RankCollective() = default;

  // Whether a function, named as it is recorded ("allreduce"), can be repeated.
  static bool known(const std::string& function);

  virtual void run() = 0;    // the blocking call
  virtual void start() = 0;  // the non-blocking call
  virtual bool test() = 0;   // true when the started call is complete
};

class Ranks : NoCopy {
 public:
  virtual ~Ranks() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int rank_on_host() const = 0;  // 0.. among the ranks of this host
  virtual int size_on_host() const = 0;
  virtual std::string library() const = 0;  // "Open MPI v4.1.4"

  // Ends all ranks at once with this exit code: after an error the others would wait for ever.
  [[noreturn]] virtual void abort(int exit_code) const = 0;

  virtual void barrier() const = 0;
  virtual int64_t max(int64_t value) const = 0;
  virtual int64_t min(int64_t value) const = 0;
  virtual int64_t sum(int64_t value) const = 0;
  virtual int64_t from_first(int64_t value) const = 0;  // rank 0's value, on every rank
  // All values of all ranks, rank by rank, on rank 0; empty elsewhere. Every rank gives equally
  // many.
  virtual std::vector<double> gather(std::span<const double> values) const = 0;
  // Texts of all ranks, on every rank.
  virtual std::vector<std::string> all_texts(const std::string& text) const = 0;

  // `bytes` of one rank. input_error naming the function when it cannot be repeated.
  virtual std::unique_ptr<RankCollective> collective(const std::string& function,
                                                     int64_t bytes) const = 0;
  // Cost of one look at a collective that is not complete, ns per look.
  virtual double test_cost_ns(int looks) const = 0;
};

// The only process of its replay. Its collectives move one rank's bytes and are complete when
// the call returns, so its windows are timed by the clock.
class LoneRank final : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int rank_on_host() const override { return 0; }
  int size_on_host() const override { return 1; }
  std::string library() const override { return "no MPI"; }
  [[noreturn]] void abort(int exit_code) const override;
  void barrier() const override {}
  int64_t max(int64_t value) const override { return value; }
  int64_t min(int64_t value) const override { return value; }
  int64_t sum(int64_t value) const override { return value; }
  int64_t from_first(int64_t value) const override { return value; }
  std::vector<double> gather(std::span<const double> values) const override;
  std::vector<std::string> all_texts(const std::string& text) const override { return {text}; }
  std::unique_ptr<RankCollective> collective(const std::string& function,
                                             int64_t bytes) const override;
  double test_cost_ns(int looks) const override;
};

// This process as one of those that a launcher started. One per process: MPI from here until it is
// destroyed. input_error naming the package when MPI is not installed.
std::unique_ptr<Ranks> join_mpi_ranks();

}  // namespace preserve
