// SPDX-License-Identifier: Apache-2.0
// Where libcuda meets the module: CUDA_INJECTION64_PATH names the library, and cuInit calls
// InitializeInjection() in it.
#include "hooks/listener.h"

// Always 1: whatever happens, the program goes on. (To libcuda 0 is a failure.)
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  preserve::listener::cuda_began();
  return 1;
}
