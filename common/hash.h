// SPDX-License-Identifier: Apache-2.0
// Hashes for tables and for names that several processes agree on; nothing here is cryptographic.
// Header-only and without allocation: also used inside foreign processes.
#pragma once

#include <cstdint>
#include <string_view>

namespace preserve {

// FNV-1a, begun with kFnvBasis: one value, usually a byte, more.
inline constexpr uint64_t kFnvBasis = 0xcbf29ce484222325;
constexpr uint64_t fnv_next(uint64_t hash, uint64_t value) {
  return (hash ^ value) * 0x100000001b3;
}
constexpr uint64_t fnv_hash(std::string_view text, uint64_t hash = kFnvBasis) {
  for (const char c : text) hash = fnv_next(hash, static_cast<unsigned char>(c));
  return hash;
}

// A sequence of numbers: the hash of those before, and the next one.
constexpr uint64_t mixed_hash(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

}  // namespace preserve
