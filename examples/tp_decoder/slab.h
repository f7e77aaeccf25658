// SPDX-License-Identifier: Apache-2.0
// Memory for many tensors in one allocation, as engines do it: first everything is reserved (so the
// need is known before a byte is taken), then allocated at once. Owns the memory; a reserved
// tensor's pointer is filled in by allocate(). Sizes in bytes unless a name says floats.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "examples/tp_decoder/annotate.h"

namespace tp_decoder {

class Slab {
 public:
  Slab() = default;
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // `*where` is set by allocate() and must still be there then.
  void reserve(std::string name, int64_t floats, float** where);
  int64_t bytes() const { return bytes_; }
  // Zero-filled memory. Throws Error when the system has none.
  void allocate();

  void* base() const { return base_; }
  std::span<const Region> regions() const { return regions_; }  // in order of reserve()

 private:
  std::vector<Region> regions_;
  std::vector<float**> pointers_;
  int64_t bytes_ = 0;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  void* base_ = nullptr;
};

// What this host can still give without swapping, the container's limit included. Throws Error when
// the system does not say.
int64_t available_memory_bytes();

}  // namespace tp_decoder
