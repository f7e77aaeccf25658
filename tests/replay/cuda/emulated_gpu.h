// SPDX-License-Identifier: Apache-2.0
// Runs the kernels of replay/cuda on the CPU, so that what they read, ask for and store is tested
// where there is no GPU. The threads of a block are fibers that take turns at barriers; blocks run
// one after another. It shows wrong indexes, missing barriers' deadlocks and wrong sums; it does
// not show races, speed, or whether an instruction means on a GPU what it is taken for.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace preserve::emulated {

struct Index {
  unsigned x = 0;
};
struct Position {
  Index thread, block, grid;
};
const Position& here();

void barrier();  // all threads of the block that have not ended
uint64_t shuffle_down(uint64_t value, int distance);

// Time goes on by kTickNs with every look at it.
inline constexpr uint64_t kTickNs = 10;
inline constexpr uint64_t kCyclesPerNs = 2;
extern uint64_t timer_step_ns;  // the timer shows multiples of it
uint64_t timer_ns();
long long clock_cycles();
void advance(uint64_t ns);

// Block i runs on SM i % sms.
inline constexpr unsigned kSms = 16;
unsigned sm_index();

// What a kernel asked L2 for, in order; nothing is kept while `recording` is false.
extern bool recording;
struct Request {
  uint64_t address, bytes;
  bool kept;
  unsigned sm;  // that asked
};
std::vector<Request>& requests();
void request(uint64_t address, uint64_t bytes, bool kept);

// Calls `thread` once for each thread of each block.
void launch(unsigned blocks, unsigned threads, const std::function<void()>& thread);

}  // namespace preserve::emulated
