// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/group.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "common/clock.h"
#include "common/error.h"
#include "replay/ranks/collective_buffers.h"
#include "replay/ranks/mpi.h"

namespace preserve {
namespace {

class LoneCollective final : public RankCollective {
 public:
  explicit LoneCollective(CollectiveBuffers buffers) : buffers_(std::move(buffers)) {}
  void run() override {
    const bool moves = buffers_.function != CollectiveFunction::broadcast &&
                       buffers_.function != CollectiveFunction::barrier;
    if (moves) std::ranges::copy(buffers_.send, buffers_.receive.begin());
  }
  void start() override { run(); }
  bool test() override { return true; }

 private:
  CollectiveBuffers buffers_;
};

std::filesystem::path module_path() {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  return self.parent_path().parent_path() / "lib/preserve" / kMpiModule;
}

}  // namespace

void LoneRank::abort(int exit_code) const {
  std::_Exit(exit_code);
}

std::vector<double> LoneRank::gather(std::span<const double> values) const {
  return {values.begin(), values.end()};
}

std::unique_ptr<RankCollective> LoneRank::collective(const std::string& function,
                                                     int64_t bytes) const {
  return std::make_unique<LoneCollective>(collective_buffers(function, bytes, 1));
}

double LoneRank::test_cost_ns(int looks) const {
  const int64_t start_ns = monotonic_ns();
  int64_t end_ns = start_ns;
  for (int i = 0; i < looks; ++i) end_ns = monotonic_ns();
  return static_cast<double>(end_ns - start_ns) / looks;
}

std::unique_ptr<Ranks> join_mpi_ranks() {
  const std::filesystem::path path = module_path();
  if (!std::filesystem::exists(path)) {
    throw input_error("{} is missing, and several ranks need it: install preserve completely",
                      path.string());
  }
  // Global: Open MPI's plug-ins look for its symbols there. Never closed: MPI starts once.
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr) {
    const char* why = ::dlerror();
    throw input_error(
        "several ranks talk over Open MPI, which cannot be loaded here ({}): install openmpi-bin, "
        "which brings libopenmpi3",
        why == nullptr ? "no reason given" : why);
  }
  auto* join = reinterpret_cast<decltype(&preserve_mpi_ranks)>(::dlsym(module, kMpiEntry));
  if (join == nullptr) {
    throw internal_error("{} has no {}: it is another version's", path.string(), kMpiEntry);
  }
  return std::unique_ptr<Ranks>(join());
}

}  // namespace preserve
