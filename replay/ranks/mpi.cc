// SPDX-License-Identifier: Apache-2.0
// The module libpreserve_mpi.so: ranks that talk over MPI.
#include "replay/ranks/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>

#include "common/clock.h"
#include "common/error.h"
#include "common/text.h"
#include "replay/ranks/collective_buffers.h"
#include "replay/ranks/group.h"

namespace preserve {
namespace {

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw internal_error("{} failed: {}", call, text);
}

int64_t reduce(int64_t value, MPI_Op op) {
  int64_t result = 0;
  check(MPI_Allreduce(&value, &result, 1, MPI_INT64_T, op, MPI_COMM_WORLD), "MPI_Allreduce");
  return result;
}

class MpiRanks final : public Ranks {
 public:
  MpiRanks();
  ~MpiRanks() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int rank_on_host() const override { return rank_on_host_; }
  int size_on_host() const override { return size_on_host_; }
  std::string library() const override;
  [[noreturn]] void abort(int exit_code) const override;
  void barrier() const override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
  int64_t max(int64_t value) const override { return reduce(value, MPI_MAX); }
  int64_t min(int64_t value) const override { return reduce(value, MPI_MIN); }
  int64_t sum(int64_t value) const override { return reduce(value, MPI_SUM); }
  int64_t from_first(int64_t value) const override;
  std::vector<double> gather(std::span<const double> values) const override;
  std::vector<std::string> all_texts(const std::string& text) const override;
  std::unique_ptr<RankCollective> collective(const std::string& function,
                                             int64_t bytes) const override;
  double test_cost_ns(int looks) const override;

 private:
  int rank_ = 0, size_ = 1, rank_on_host_ = 0, size_on_host_ = 1;
};

MpiRanks::MpiRanks() {
  check(MPI_Init(nullptr, nullptr), "MPI_Init");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  MPI_Comm host = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(host, &rank_on_host_), "MPI_Comm_rank");
  check(MPI_Comm_size(host, &size_on_host_), "MPI_Comm_size");
  check(MPI_Comm_free(&host), "MPI_Comm_free");
}

std::string MpiRanks::library() const {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text, static_cast<size_t>(std::max(length, 0)));
  return printable(version.substr(0, version.find(',')));
}

void MpiRanks::abort(int exit_code) const {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

int64_t MpiRanks::from_first(int64_t value) const {
  check(MPI_Bcast(&value, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
  return value;
}

std::vector<double> MpiRanks::gather(std::span<const double> values) const {
  std::vector<double> all(rank_ == 0 ? values.size() * static_cast<size_t>(size_) : 0);
  const int count = static_cast<int>(values.size());
  check(MPI_Gather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, 0,
                   MPI_COMM_WORLD),
        "MPI_Gather");
  return all;
}

std::vector<std::string> MpiRanks::all_texts(const std::string& text) const {
  const auto length = static_cast<size_t>(max(static_cast<int64_t>(text.size()))) + 1;
  std::string mine = text;
  mine.resize(length, '\0');
  std::string all(length * static_cast<size_t>(size_), '\0');
  check(MPI_Allgather(mine.data(), static_cast<int>(length), MPI_CHAR, all.data(),
                      static_cast<int>(length), MPI_CHAR, MPI_COMM_WORLD),
        "MPI_Allgather");
  std::vector<std::string> texts;
  texts.reserve(static_cast<size_t>(size_));
  for (int i = 0; i < size_; ++i) {
    texts.emplace_back(all.c_str() + static_cast<size_t>(i) * length);
  }
  return texts;
}

// Every function moves floats between `send` and `receive`, whose sizes the buffers know.
class MpiCollective final : public RankCollective {
 public:
  explicit MpiCollective(CollectiveBuffers buffers) : buffers_(std::move(buffers)) {}
  void run() override { check(blocking(), "collective"); }
  void start() override { check(non_blocking(), "non-blocking collective"); }
  bool test() override;

 private:
  int blocking();
  int non_blocking();

  CollectiveBuffers buffers_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

int MpiCollective::blocking() {
  float* in = buffers_.send.data();
  float* out = buffers_.receive.data();
  const int count = buffers_.count;
  switch (buffers_.function) {
    case CollectiveFunction::allreduce:
      return MPI_Allreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case CollectiveFunction::allgather:
      return MPI_Allgather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD);
    case CollectiveFunction::reduce_scatter:
      return MPI_Reduce_scatter_block(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case CollectiveFunction::alltoall:
      return MPI_Alltoall(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD);
    case CollectiveFunction::broadcast:
      return MPI_Bcast(in, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case CollectiveFunction::reduce:
      return MPI_Reduce(in, out, count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
    case CollectiveFunction::gather:
      return MPI_Gather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case CollectiveFunction::scatter:
      return MPI_Scatter(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case CollectiveFunction::barrier:
      return MPI_Barrier(MPI_COMM_WORLD);
  }
  return MPI_ERR_ARG;
}

int MpiCollective::non_blocking() {
  float* in = buffers_.send.data();
  float* out = buffers_.receive.data();
  const int count = buffers_.count;
  switch (buffers_.function) {
    case CollectiveFunction::allreduce:
      return MPI_Iallreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::allgather:
      return MPI_Iallgather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::reduce_scatter:
      return MPI_Ireduce_scatter_block(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD,
                                       &request_);
    case CollectiveFunction::alltoall:
      return MPI_Ialltoall(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::broadcast:
      return MPI_Ibcast(in, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::reduce:
      return MPI_Ireduce(in, out, count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::gather:
      return MPI_Igather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request_);
    case CollectiveFunction::scatter:
      return MPI_Iscatter(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD,
                          &request_);
    case CollectiveFunction::barrier:
      return MPI_Ibarrier(MPI_COMM_WORLD, &request_);
  }
  return MPI_ERR_ARG;
}

bool MpiCollective::test() {
  int done = 0;
  check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

std::unique_ptr<RankCollective> MpiRanks::collective(const std::string& function,
                                                     int64_t bytes) const {
  return std::make_unique<MpiCollective>(collective_buffers(function, bytes, size_));
}

double MpiRanks::test_cost_ns(int looks) const {
  // A receive without a sender stays incomplete until it is cancelled.
  constexpr int kTag = 4242;
  char byte = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(&byte, 1, MPI_CHAR, 0, kTag, MPI_COMM_SELF, &request), "MPI_Irecv");
  const int64_t start_ns = monotonic_ns();
  int done = 0;
  for (int i = 0; i < looks; ++i) check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  const int64_t end_ns = monotonic_ns();
  check(MPI_Cancel(&request), "MPI_Cancel");
  check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
  return static_cast<double>(end_ns - start_ns) / looks;
}

}  // namespace

extern "C" Ranks* preserve_mpi_ranks() {
  return new MpiRanks;
}

}  // namespace preserve
