// SPDX-License-Identifier: Apache-2.0
// preserve-replay --grid: plans and measures many generated steps, one after another. A command
// line of its own, because it shares no argument with the replay of one trace.
#pragma once

namespace preserve {

bool wants_grid(int argc, char** argv);
int grid_main(int argc, char** argv);

}  // namespace preserve
