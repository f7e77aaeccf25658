// SPDX-License-Identifier: Apache-2.0
// Whether two names mean one kind of device: a schedule's, which may come from a file of published
// figures ("h100-sxm"), and what a driver calls the device that is here ("NVIDIA H100 80GB HBM3").
#pragma once

#include <string_view>

namespace preserve {

// Model words must agree; memory size and form factor must not contradict each other, and count
// only where both names tell them. Vendor and marketing words count for nothing.
bool same_device(std::string_view planned, std::string_view actual);

}  // namespace preserve
