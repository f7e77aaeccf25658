// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/process.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "apply/library/own_files.h"
#include "apply/library/regions.h"
#include "common/clock.h"
#include "common/launcher_variables.h"
#include "hooks/listener.h"

namespace preserve::apply {
namespace {

struct State {
  std::atomic<bool> has_plan{false};
  GraphPlanView plan;
  Tensors names;
  Driver driver;
  std::atomic<GraphSession*> session{nullptr};
};
alignas(State) char state_memory[sizeof(State)];
alignas(GraphSession) char session_memory[sizeof(GraphSession)];
State* state = nullptr;  // never destroyed: the driver may call until the very end

// CUDA does not survive a fork, and the mapped outcome is the parent's.
void in_child() {
  if (state == nullptr) return;
  state->has_plan.store(false, std::memory_order_relaxed);
  state->session.store(nullptr, std::memory_order_relaxed);
}

// From 0 to before 2^20; -1: not such a number.
int32_t number_of(const char* variable) {
  const char* text = variable == nullptr ? nullptr : ::getenv(variable);
  if (text == nullptr || *text == '\0') return -1;
  char* end = nullptr;
  const long number = ::strtol(text, &end, 10);
  return *end == '\0' && number >= 0 && number < 1 << 20 ? static_cast<int32_t>(number) : -1;
}

struct Place {
  int32_t rank = 0;
  uint32_t ranks = 1;  // processes, which may be fewer than the plan's ranks: those are GPUs
};

// What a launcher of ranks says of this process; of one without a launcher, it is alone.
Place place_of_process() {
  for (const RankVariables& launcher : kRankVariables) {
    const int32_t rank = number_of(launcher.rank), ranks = number_of(launcher.size);
    if (rank < 0) continue;
    return {rank, ranks > rank ? static_cast<uint32_t>(ranks) : state->plan.header().ranks};
  }
  return {};
}

// Header, one window for all, and the samples. In memory of our own where the folder has no room.
OutcomeHeader* make_outcome(Place place) {
  const GraphPlanHeader& plan = state->plan.header();
  OutcomeHeader header{};
  describe(header);
  header.ranks = place.ranks;
  header.windows = 1;
  header.sample_capacity = plan.sample_capacity;
  const size_t bytes = outcome_bytes(1, 0, plan.sample_capacity);
  header.file_bytes = bytes;
  char path[PATH_MAX];
  name_outcome(path, state->plan.folder(), header);
  void* memory = map_outcome(path, bytes, false);
  if (memory != nullptr) std::memcpy(memory, &header, sizeof(header));
  return static_cast<OutcomeHeader*>(memory);
}

void load() {
  const char* plan = ::getenv("PRESERVE_APPLY_GRAPH_PLAN");
  if (plan == nullptr || *plan != '/') return;
  state = new (state_memory) State;
  if (state->plan.open(map_plan(plan)) != nullptr ||
      !state->names.start(state->plan.tensors(), state->plan.text()) ||
      ::pthread_atfork(nullptr, nullptr, in_child) != 0) {
    return;
  }
  state->has_plan.store(true, std::memory_order_release);
}

// Libcuda or NVTX, whichever the program begins to use first.
bool has_plan() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  ::pthread_once(&once, load);
  return state != nullptr && state->has_plan.load(std::memory_order_acquire);
}

void start() {
  if (!has_plan()) return;
  const Place place = place_of_process();
  OutcomeHeader* header = make_outcome(place);
  if (header == nullptr) return;
  auto* window = reinterpret_cast<WindowOutcome*>(header + 1);
  auto* samples = reinterpret_cast<StepSample*>(window + 1);
  auto* session = new (session_memory) GraphSession(
      {state->driver, state->plan, state->names, header, place.rank, window,
       std::span(samples, state->plan.header().sample_capacity), prefetch_image(), monotonic_ns});
  const char* missing = nullptr;
  if (!state->driver.load(missing)) {
    std::snprintf(header->library, sizeof(header->library), "no %s", missing);
    return session->turn_off(Off::driver_old);
  }
  int version = 0;
  (void)state->driver.version(&version);
  std::snprintf(header->library, sizeof(header->library), "driver of CUDA %d.%d", version / 1000,
                version % 1000 / 10);
  state->session.store(session, std::memory_order_release);
  if (const Off off = listen_to_driver(); off != Off::none) session->turn_off(off);
}

}  // namespace

GraphSession* graph_session() {
  return state == nullptr ? nullptr : state->session.load(std::memory_order_acquire);
}

bool wants_regions() {
  return has_plan() && !state->plan.tensors().empty();
}
Tensors& tensors() {
  return state->names;
}
void region_named() {}  // a graph's addresses are looked up when it is instantiated or updated

}  // namespace preserve::apply

void preserve::listener::cuda_began() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  ::pthread_once(&once, preserve::apply::start);
}
