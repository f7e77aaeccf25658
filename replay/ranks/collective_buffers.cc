// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/collective_buffers.h"

#include <algorithm>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/text.h"
#include "replay/ranks/group.h"

namespace preserve {
namespace {

constexpr std::string_view kFunctionWords[] = {"allreduce", "allgather", "reduce_scatter",
                                               "alltoall",  "broadcast", "reduce",
                                               "gather",    "scatter",   "barrier"};

// One side is as long as the ranks together: for some the input, for some the output.
bool has_long_side(CollectiveFunction function) {
  return function == CollectiveFunction::allgather ||
         function == CollectiveFunction::reduce_scatter ||
         function == CollectiveFunction::alltoall || function == CollectiveFunction::gather ||
         function == CollectiveFunction::scatter;
}

}  // namespace

bool RankCollective::known(const std::string& function) {
  return find_word<CollectiveFunction>(kFunctionWords, function).has_value();
}

CollectiveBuffers collective_buffers(const std::string& function, int64_t bytes, int ranks) {
  const auto found = find_word<CollectiveFunction>(kFunctionWords, function);
  if (!found) {
    throw input_error("collective \"{}\" is none that a replay can repeat", printable(function));
  }
  CollectiveBuffers buffers;
  buffers.function = *found;
  const int64_t most = (int64_t{1} << 30) / ranks;  // elements: counts of MPI are int
  const int64_t count = std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)));
  if (count > most) {
    throw input_error("collective \"{}\" of {} bytes is too large to repeat on {}",
                      printable(function), bytes, count_of(ranks, "rank"));
  }
  buffers.count = static_cast<int>(count);
  const auto elements =
      static_cast<size_t>(has_long_side(buffers.function) ? count * ranks : count);
  buffers.send.assign(elements, 1.0F);
  buffers.receive.assign(elements, 0.0F);
  return buffers;
}

}  // namespace preserve
