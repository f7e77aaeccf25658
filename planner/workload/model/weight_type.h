// SPDX-License-Identifier: Apache-2.0
// How the numbers of weights and of the KV-cache are stored.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace preserve {

// fp16: bfloat16 too. int4 stands for all formats of four bits that are multiplied as 16-bit
// numbers (GPTQ, AWQ, NF4); fp4 for those that the hardware multiplies (NVFP4, MXFP4).
enum class WeightType { fp16, int8, fp8, int4, fp4 };
inline constexpr auto kWeightTypes = {WeightType::fp16, WeightType::int8, WeightType::fp8,
                                      WeightType::int4, WeightType::fp4};
const char* to_string(WeightType type);

// A type with its scales: `scale_bytes` for each `group` numbers; group 0: too few scales to count.
struct NumberFormat {
  WeightType type = WeightType::fp16;
  int64_t group = 0;
  double scale_bytes = 0;

  NumberFormat() = default;
  // With the scales usual for the type: 128 numbers share those of int4, 16 that of fp4.
  NumberFormat(WeightType type);  // NOLINT(google-explicit-constructor)
  NumberFormat(WeightType format, int64_t numbers, double bytes)
      : type(format), group(numbers), scale_bytes(bytes) {}

  // Of `elements` numbers, rounded up.
  int64_t bytes(int64_t elements) const;
  friend bool operator==(const NumberFormat&, const NumberFormat&) = default;
};

}  // namespace preserve
