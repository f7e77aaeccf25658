// SPDX-License-Identifier: Apache-2.0
#include "tests/replay/cuda/emulated_gpu.h"

#include <ucontext.h>

#include <exception>
#include <memory>

namespace preserve::emulated {
namespace {

constexpr size_t kStackBytes = 64 << 10;

struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  Position position;
  bool ended = false;
  uint64_t shuffled = 0;
};

ucontext_t scheduler;
std::vector<Fiber> fibers;
size_t running = 0;
const std::function<void()>* body = nullptr;
std::exception_ptr failure;
uint64_t now_ns = 1000;

void run_fiber() {
  try {
    (*body)();
  } catch (...) {
    failure = std::current_exception();
  }
  fibers[running].ended = true;
  swapcontext(&fibers[running].context, &scheduler);
}

// Every fiber up to its next barrier or its end. False when all have ended.
bool run_all_once() {
  bool any = false;
  for (running = 0; running < fibers.size(); ++running) {
    if (fibers[running].ended) continue;
    swapcontext(&scheduler, &fibers[running].context);
    any = any || !fibers[running].ended;
  }
  return any;
}

}  // namespace

bool recording = true;

const Position& here() {
  return fibers[running].position;
}

void barrier() {
  swapcontext(&fibers[running].context, &scheduler);
}

uint64_t shuffle_down(uint64_t value, int distance) {
  const size_t self = running;
  fibers[self].shuffled = value;
  barrier();
  const size_t from = self + static_cast<size_t>(distance);
  const bool same_warp = from / 32 == self / 32 && from < fibers.size();
  const uint64_t result = same_warp ? fibers[from].shuffled : value;
  barrier();
  return result;
}

uint64_t timer_step_ns = 1;
uint64_t timer_ns() {
  now_ns += kTickNs;
  return now_ns - now_ns % timer_step_ns;
}
long long clock_cycles() {
  now_ns += kTickNs;
  return static_cast<long long>(now_ns) * kCyclesPerNs;
}
void advance(uint64_t ns) {
  now_ns += ns;
}
unsigned sm_index() {
  return here().block.x % kSms;
}

std::vector<Request>& requests() {
  static std::vector<Request> all;
  return all;
}
void request(uint64_t address, uint64_t bytes, bool kept) {
  if (recording) requests().push_back({address, bytes, kept, sm_index()});
}

void launch(unsigned blocks, unsigned threads, const std::function<void()>& thread) {
  body = &thread;
  failure = nullptr;
  for (unsigned block = 0; block < blocks; ++block) {
    fibers.resize(threads);
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = fibers[i];
      fiber.position = {{i}, {block}, {blocks}};
      fiber.ended = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, run_fiber, 0);
    }
    while (run_all_once()) {
    }
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace preserve::emulated
