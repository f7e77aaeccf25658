// SPDX-License-Identifier: Apache-2.0
// First touches of allocations between MPI calls -> which operators read and write them, and which
// allocations a program only reads. Times in ns, sizes in bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/tensors.h"

namespace preserve {

// Of an allocation as a whole only that it was touched is known, not how much of it.
inline constexpr double kWholeConfidence = 0.5, kPiecesConfidence = 0.9;

class Touches {
 public:
  // `touches`, by time, and what each of them touched (touched_allocations()); both must live on.
  Touches(std::span<const Touch> touches, const std::vector<const Tensors::Mapped*>& touched)
      : touches_(touches), touched_(touched) {}

  struct Access {
    TensorId tensor;
    AccessMode mode;
    uint64_t offset_bytes, bytes;
    double confidence;
  };
  // Of what ran from `start_ns` until before `end_ns`, in the order of the first touches.
  std::vector<Access> between(int64_t start_ns, int64_t end_ns) const;

 private:
  std::span<const Touch> touches_;
  const std::vector<const Tensors::Mapped*>& touched_;
};

}  // namespace preserve
