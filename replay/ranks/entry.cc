// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/entry.h"

#include "common/error.h"
#include "replay/ranks/launch.h"

namespace preserve {

int run_as_rank(Console& console, const std::function<int(Ranks&)>& body) {
  if (!find_launcher()) {
    LoneRank alone;
    return body(alone);
  }
  const std::unique_ptr<Ranks> ranks = join_mpi_ranks();
  // Not left to run_tool(): leaving this scope would finalize MPI, which waits for the other ranks.
  try {
    return body(*ranks);
  } catch (const Error& error) {
    console.error(error.what());
    const int code = error.kind() == ErrorKind::internal ? kExitInternal : kExitBadInput;
    ranks->abort(code);
    return code;  // g++ does not see that a virtual function never returns
  }
}

}  // namespace preserve
