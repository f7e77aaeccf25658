// SPDX-License-Identifier: Apache-2.0
#include "apply/library/process.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include "apply/library/own_files.h"
#include "common/clock.h"
#include "common/hash.h"
#include "hooks/c_library.h"
#include "hooks/unnoticed.h"

namespace preserve::apply {
namespace {

struct State {
  std::atomic<bool> has_plan{false};
  PlanView plan;
  Tensors tensors;
  char path[PATH_MAX] = {};  // of the outcome
  OutcomeHeader* header = nullptr;
  OutcomeMemory memory;
  Board own_board;
  Board* board = &own_board;
  std::atomic<Session*> session{nullptr};
  Helper* helper = nullptr;
};
alignas(State) char state_memory[sizeof(State)];
State* state = nullptr;  // never destroyed: the program's exit handlers may still call MPI

// Several jobs may run one after the other under one launcher; what one decided is not the next
// one's. Without a name of the job every rank decides for itself.
void share_board(const char* host) {
  const char* job = ::getenv("PMIX_NAMESPACE");
  if (job == nullptr) job = ::getenv("SLURM_STEP_ID");
  // Of MPICH's launcher only its own process tells one job from the next.
  char launcher[32];
  if (job == nullptr && ::getenv("PMI_SIZE") != nullptr) {
    std::snprintf(launcher, sizeof(launcher), "launcher %d", static_cast<int>(::getppid()));
    job = launcher;
  }
  if (job == nullptr || *job == '\0') return;
  char path[PATH_MAX];
  const std::string_view folder = state->plan.folder();
  const int length =
      std::snprintf(path, sizeof(path), "%.*s/%s.%016llx.board", static_cast<int>(folder.size()),
                    folder.data(), host, static_cast<unsigned long long>(fnv_hash(job)));
  if (length <= 0 || static_cast<size_t>(length) >= sizeof(path)) return;
  if (void* shared = map_file(path, sizeof(Board), true))
    state->board = static_cast<Board*>(shared);
}

// The child has its parent's memory and the mapped file with it: it says nothing, and does nothing.
void in_child() {
  state->has_plan.store(false, std::memory_order_relaxed);
  watch_memory(nullptr);
  Session::forget_window();
}

void load() {
  const Unnoticed unnoticed;
  const char* plan = ::getenv("PRESERVE_APPLY_PLAN");
  if (plan == nullptr || *plan != '/' || !hooks::is_glibc()) return;
  state = new (state_memory) State;
  if (state->plan.open(map_plan(plan)) != nullptr) return;
  if (!state->tensors.start(state->plan)) return;
  OutcomeHeader header{};
  describe(header);
  name_outcome(state->path, state->plan.folder(), header);
  void* memory = map_outcome(state->path, sizeof(header), false);
  if (memory == nullptr) return;
  std::memcpy(memory, &header, sizeof(header));
  state->header = static_cast<OutcomeHeader*>(memory);
  if (!hooks::at_fork(nullptr, nullptr, in_child)) return;
  state->has_plan.store(true, std::memory_order_release);
  if (state->tensors.wants_allocations()) watch_memory(&state->tensors);
}

// Other libraries may call before our turn comes.
void load_once() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  ::pthread_once(&once, load);
}

__attribute__((constructor)) void at_start() {
  load_once();
}

// The whole outcome in place of the header alone.
OutcomeMemory grow() {
  const PlanHeader& plan = state->plan.header();
  const size_t bytes = outcome_bytes(plan.windows, plan.tensors, plan.sample_capacity);
  void* memory = map_outcome(state->path, bytes, true);
  if (memory == nullptr) return {};
  auto* header = static_cast<OutcomeHeader*>(memory);
  *header = *state->header;
  header->file_bytes = bytes;
  header->windows = plan.windows;
  header->tensors = plan.tensors;
  header->sample_capacity = plan.sample_capacity;
  auto* windows = reinterpret_cast<WindowOutcome*>(header + 1);
  auto* tensors = reinterpret_cast<TensorOutcome*>(windows + plan.windows);
  auto* samples = reinterpret_cast<StepSample*>(tensors + plan.tensors);
  state->header = header;
  return {
      header, {windows, plan.windows}, {tensors, plan.tensors}, {samples, plan.sample_capacity}};
}

}  // namespace

bool has_plan() {
  load_once();
  return state != nullptr && state->has_plan.load(std::memory_order_relaxed);
}

bool wants_regions() {
  return has_plan();
}
void region_named() {
  if (tensors().least_bytes() != UINT64_MAX) watch_memory(&tensors());
}

Tensors& tensors() {
  return state->tensors;
}

Session* session() {
  return has_plan() ? state->session.load(std::memory_order_acquire) : nullptr;
}

OutcomeHeader* outcome() {
  return state->header;
}

void start_session(int rank, int ranks, std::string_view library, const Engine& engine) {
  if (!has_plan() || session() != nullptr) return;
  const Unnoticed unnoticed;
  const OutcomeMemory memory = grow();
  const size_t entries = Recogniser::memory_entries(state->plan.collectives().size());
  void* recogniser = map_own(entries * sizeof(uint32_t));
  void* place = map_own(sizeof(Session));
  if (memory.header == nullptr || recogniser == nullptr || place == nullptr) return;
  memory.header->rank = rank;
  memory.header->ranks = static_cast<uint32_t>(ranks);
  const size_t kept = std::min(library.size(), sizeof(memory.header->library) - 1);
  std::memcpy(memory.header->library, library.data(), kept);
  std::replace(memory.header->library, memory.header->library + kept, '\t', ' ');  // of MPICH
  share_board(memory.header->host);
  state->board->ranks.fetch_add(1);
  Engine used = engine;
  if (state->plan.header().via == Via::spare) {
    void* helper = map_own(sizeof(Helper));
    if (helper == nullptr) return;
    state->helper = new (helper) Helper(state->plan, state->tensors, *state->board, monotonic_ns);
    used = {[] { return state->helper->start(); }, [] { state->helper->stop(); }};
  }
  auto* made =
      new (place) Session({state->plan, state->tensors, memory, *state->board, monotonic_ns, used,
                           state->helper, std::span(static_cast<uint32_t*>(recogniser), entries)});
  state->session.store(made, std::memory_order_release);
}

}  // namespace preserve::apply
