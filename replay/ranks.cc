// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "common/cli.h"
#include "common/error.h"
#include "common/units.h"
#include "replay/clock.h"

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

}  // namespace

Ranks::Ranks() {
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

Ranks::~Ranks() {
  MPI_Finalize();
}

std::string Ranks::library() const {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text, static_cast<size_t>(std::max(length, 0)));
  return printable(version.substr(0, version.find(',')));
}

void Ranks::abort(int exit_code) const {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

void Ranks::barrier() const {
  check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
}
int64_t Ranks::max(int64_t value) const {
  return reduce(value, MPI_MAX);
}
int64_t Ranks::min(int64_t value) const {
  return reduce(value, MPI_MIN);
}
int64_t Ranks::sum(int64_t value) const {
  return reduce(value, MPI_SUM);
}

int64_t Ranks::from_first(int64_t value) const {
  check(MPI_Bcast(&value, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
  return value;
}

std::vector<double> Ranks::gather(std::span<const double> values) const {
  std::vector<double> all(rank_ == 0 ? values.size() * static_cast<size_t>(size_) : 0);
  const int count = static_cast<int>(values.size());
  check(MPI_Gather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, 0,
                   MPI_COMM_WORLD),
        "MPI_Gather");
  return all;
}

std::vector<std::string> Ranks::all_texts(const std::string& text) const {
  const auto length = static_cast<size_t>(max(static_cast<int64_t>(text.size()))) + 1;
  std::string mine = text;
  mine.resize(length, '\0');
  std::string all(length * static_cast<size_t>(size_), '\0');
  check(MPI_Allgather(mine.data(), static_cast<int>(length), MPI_CHAR, all.data(),
                      static_cast<int>(length), MPI_CHAR, MPI_COMM_WORLD),
        "MPI_Allgather");
  std::vector<std::string> texts;
  for (int i = 0; i < size_; ++i) {
    texts.emplace_back(all.c_str() + static_cast<size_t>(i) * length);
  }
  return texts;
}

// One function of MPI, blocking and not. Every one moves bytes of type float or char between `send`
// and `receive`, whose sizes the constructor knows.
struct RankCollective::Call {
  enum class Function {
    allreduce,
    allgather,
    reduce_scatter,
    alltoall,
    broadcast,
    reduce,
    gather,
    scatter,
    barrier
  };
  Function function = Function::barrier;
  int count = 0;  // elements that one rank contributes or keeps
  std::vector<float> send, receive;
  MPI_Request request = MPI_REQUEST_NULL;

  static const std::map<std::string, Function>& functions();
  int run();
  int start();
};

const std::map<std::string, RankCollective::Call::Function>& RankCollective::Call::functions() {
  static const std::map<std::string, Function> all{{"allreduce", Function::allreduce},
                                                   {"allgather", Function::allgather},
                                                   {"reduce_scatter", Function::reduce_scatter},
                                                   {"alltoall", Function::alltoall},
                                                   {"broadcast", Function::broadcast},
                                                   {"reduce", Function::reduce},
                                                   {"gather", Function::gather},
                                                   {"scatter", Function::scatter},
                                                   {"barrier", Function::barrier}};
  return all;
}

int RankCollective::Call::run() {
  float* in = send.data();
  float* out = receive.data();
  switch (function) {
    case Function::allreduce:
      return MPI_Allreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case Function::allgather:
      return MPI_Allgather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD);
    case Function::reduce_scatter:
      return MPI_Reduce_scatter_block(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case Function::alltoall:
      return MPI_Alltoall(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD);
    case Function::broadcast:
      return MPI_Bcast(in, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case Function::reduce:
      return MPI_Reduce(in, out, count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
    case Function::gather:
      return MPI_Gather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case Function::scatter:
      return MPI_Scatter(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    case Function::barrier:
      return MPI_Barrier(MPI_COMM_WORLD);
  }
  return MPI_ERR_ARG;
}

int RankCollective::Call::start() {
  float* in = send.data();
  float* out = receive.data();
  switch (function) {
    case Function::allreduce:
      return MPI_Iallreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
    case Function::allgather:
      return MPI_Iallgather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD, &request);
    case Function::reduce_scatter:
      return MPI_Ireduce_scatter_block(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD,
                                       &request);
    case Function::alltoall:
      return MPI_Ialltoall(in, count, MPI_FLOAT, out, count, MPI_FLOAT, MPI_COMM_WORLD, &request);
    case Function::broadcast:
      return MPI_Ibcast(in, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request);
    case Function::reduce:
      return MPI_Ireduce(in, out, count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD, &request);
    case Function::gather:
      return MPI_Igather(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request);
    case Function::scatter:
      return MPI_Iscatter(in, count, MPI_FLOAT, out, count, MPI_FLOAT, 0, MPI_COMM_WORLD, &request);
    case Function::barrier:
      return MPI_Ibarrier(MPI_COMM_WORLD, &request);
  }
  return MPI_ERR_ARG;
}

RankCollective::RankCollective(const std::string& function, int64_t bytes, int ranks)
    : call_(std::make_unique<Call>()) {
  const auto found = Call::functions().find(function);
  if (found == Call::functions().end()) {
    throw input_error("collective \"{}\" is none that a replay over MPI can repeat",
                      printable(function));
  }
  call_->function = found->second;
  const int64_t most = (int64_t{1} << 30) / ranks;  // elements: counts of MPI are int
  const int64_t count = std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)));
  if (count > most) {
    throw input_error("collective \"{}\" of {} bytes is too large to repeat on {}",
                      printable(function), bytes, count_of(ranks, "rank"));
  }
  call_->count = static_cast<int>(count);
  // In these one side is as long as the ranks together: for some the input, for some the output.
  using Function = Call::Function;
  const bool one_long_side =
      call_->function == Function::allgather || call_->function == Function::reduce_scatter ||
      call_->function == Function::alltoall || call_->function == Function::gather ||
      call_->function == Function::scatter;
  const auto elements = static_cast<size_t>(one_long_side ? count * ranks : count);
  call_->send.assign(elements, 1.0F);
  call_->receive.assign(elements, 0.0F);
}

RankCollective::~RankCollective() = default;
RankCollective::RankCollective(RankCollective&&) noexcept = default;

bool RankCollective::known(const std::string& function) {
  return Call::functions().count(function) != 0;
}

int64_t RankCollective::buffer_bytes() const {
  return static_cast<int64_t>((call_->send.size() + call_->receive.size()) * sizeof(float));
}

void RankCollective::run() {
  check(call_->run(), "collective");
}
void RankCollective::start() {
  check(call_->start(), "non-blocking collective");
}

bool RankCollective::test() {
  int done = 0;
  check(MPI_Test(&call_->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

double measure_test_cost_ns(int calls) {
  // A receive that nobody answers stays incomplete until it is cancelled.
  constexpr int kTag = 4242;
  char byte = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(&byte, 1, MPI_CHAR, 0, kTag, MPI_COMM_SELF, &request), "MPI_Irecv");
  const int64_t start_ns = now_ns();
  int done = 0;
  for (int i = 0; i < calls; ++i) check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  const int64_t end_ns = now_ns();
  check(MPI_Cancel(&request), "MPI_Cancel");
  check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
  return static_cast<double>(end_ns - start_ns) / calls;
}

}  // namespace preserve
