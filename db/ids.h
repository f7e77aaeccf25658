// SPDX-License-Identifier: Apache-2.0
// Row numbers of trace.db as distinct types, so that a stream never passes as an operator.
// 0: no row.
#pragma once

#include <compare>
#include <cstdint>

namespace preserve {

template <typename Tag>
struct Id {
  int64_t value = 0;
  explicit operator bool() const { return value != 0; }
  friend auto operator<=>(const Id&, const Id&) = default;
};

using StringId = Id<struct StringTag>;
using ProcessId = Id<struct ProcessTag>;
using DeviceId = Id<struct DeviceTag>;
using StreamId = Id<struct StreamTag>;
using RangeId = Id<struct RangeTag>;
using OpId = Id<struct OpTag>;
using TensorId = Id<struct TensorTag>;
using StepId = Id<struct StepTag>;

}  // namespace preserve
