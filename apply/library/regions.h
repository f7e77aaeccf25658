// SPDX-License-Identifier: Apache-2.0
// What NVTX's memory regions (nvtx.cc) need of the library that hears of them. Each of the two
// libraries, for MPI programs and for CUDA graphs, defines these.
#pragma once

#include "apply/library/tensors.h"

namespace preserve::apply {

// Whether there is a plan with names, and this process is the one that loaded it.
bool wants_regions();
Tensors& tensors();  // only where regions are wanted
void region_named();

}  // namespace preserve::apply
