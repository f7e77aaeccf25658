// SPDX-License-Identifier: Apache-2.0
// The driver's graph interface over the emulated runtime: templates with typed nodes and edge data,
// executable graphs that run in any order their edges allow, updates that are refused where the
// real driver refuses them.
#pragma once

#include <cuda.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/replay/cuda/emulated_cuda.h"

namespace preserve::emulated {

// A kernel that modules and tests may name. Lives as long as the process.
CUfunction make_function(const std::string& name, std::vector<size_t> parameter_bytes,
                         std::function<void(void**, unsigned, unsigned)> call);

// Calls of the driver since reset; the one with number `failing_call` (from 1) fails, and from then
// on all do where `failing_on` says so.
extern int driver_calls, failing_call;
extern bool failing_on;

// As drivers before CUDA 12.3: no edges that wait for the beginning of a kernel.
extern int driver_version;

// Of the calling thread. Device `i` has one context.
extern thread_local int current_device;
CUcontext context_of(int device);
// What the device says of itself, and the one on which all memory lies.
extern int cache_bytes, processors, memory_device;
extern size_t free_bytes;
extern bool too_old;  // for the image of a module
extern bool primary_active;
// An address range (cuMemAddressReserve) around memory, which the attributes of a pointer show in
// place of what is mapped.
extern Allocation reserved;

void drain();  // runs everything that was put into streams

}  // namespace preserve::emulated
