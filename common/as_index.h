// SPDX-License-Identifier: Apache-2.0
// Ordinals and other references into vectors are signed in files and records (-1: none); a vector
// wants them unsigned.
#pragma once

#include <concepts>
#include <cstddef>

namespace preserve {

// `value` must not be negative.
constexpr size_t as_index(std::signed_integral auto value) {
  return static_cast<size_t>(value);
}

}  // namespace preserve
