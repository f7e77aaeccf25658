// SPDX-License-Identifier: Apache-2.0
// This process: its plan, its outcome, and CUPTI's callbacks as calls of the session.
#pragma once

#include "apply/library/cuda/session.h"

namespace preserve::apply {

const void* prefetch_image();  // as cuModuleLoadData takes it

// nullptr where there is none: no plan, something is missing, or a child after fork.
GraphSession* graph_session();

// Has CUPTI call the session from now on. Off::none, or why not.
Off listen_to_driver();

}  // namespace preserve::apply
