// SPDX-License-Identifier: Apache-2.0
// Base of what is neither copied nor moved: it stands for something outside the program, or others
// point at it.
#pragma once

namespace preserve {

class NoCopy {
 public:
  NoCopy() = default;
  NoCopy(const NoCopy&) = delete;
  NoCopy& operator=(const NoCopy&) = delete;
};

}  // namespace preserve
