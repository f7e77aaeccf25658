// SPDX-License-Identifier: Apache-2.0
// A library with its own copy of the NVTX headers' state, opened by nvtx_program.
#include <nvtx3/nvToolsExt.h>

extern "C" void plugin_work() {
  nvtxRangePushA("in plugin");
  nvtxRangePop();
}
