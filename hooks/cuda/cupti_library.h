// SPDX-License-Identifier: Apache-2.0
// Where libcupti is: the program may bring its own copy (PyTorch does), two copies in one process
// do not work, and most machines have none.
#pragma once

namespace preserve::hooks {

// First of all the copy that the process already has; then PRESERVE_CUPTI, the folder of this
// library, PyTorch's wheels next to a loaded libtorch, the toolkit, the system's search path.
// A handle of dlopen(); nullptr when there is none.
void* find_cupti();

}  // namespace preserve::hooks
