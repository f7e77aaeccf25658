// SPDX-License-Identifier: Apache-2.0
// Between the two halves of the fake CUPTI: what runs on its GPU, and what counts it.
#pragma once

#include <mutex>

namespace fake {

extern std::mutex mutex;
extern bool capturing;  // a graph, under `mutex`

// The number after `what` in the environment variable FAKE_CUPTI; 0: it is not in there.
int failure(const char* what);
// A kernel runs, under `mutex`.
void count_kernel();

}  // namespace fake
