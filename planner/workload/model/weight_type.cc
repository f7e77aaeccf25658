// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/weight_type.h"

#include "common/error.h"
#include "common/units.h"

namespace preserve {
namespace {

// Scale and zero point of GPTQ and AWQ: 16 and 4 bits.
constexpr double kInt4ScaleBytes = 2.5;

int64_t bits_of(WeightType type) {
  switch (type) {
    case WeightType::fp16:
      return 16;
    case WeightType::int8:
    case WeightType::fp8:
      return 8;
    case WeightType::int4:
    case WeightType::fp4:
      return 4;
  }
  throw internal_error("no such weight type");
}

}  // namespace

const char* to_string(WeightType type) {
  switch (type) {
    case WeightType::fp16:
      return "fp16";
    case WeightType::int8:
      return "int8";
    case WeightType::fp8:
      return "fp8";
    case WeightType::int4:
      return "int4";
    case WeightType::fp4:
      return "fp4";
  }
  throw internal_error("no such weight type");
}

NumberFormat::NumberFormat(WeightType format) : type(format) {
  if (format == WeightType::int4) group = 128, scale_bytes = kInt4ScaleBytes;
  if (format == WeightType::fp4) group = 16, scale_bytes = 1;
}

int64_t NumberFormat::bytes(int64_t elements) const {
  const int64_t numbers = (checked_mul(elements, bits_of(type), "the model's size") + 7) / 8;
  if (group == 0) return numbers;
  const int64_t groups = (elements + group - 1) / group;
  const double scales = static_cast<double>(groups) * scale_bytes;
  return checked_add(numbers, static_cast<int64_t>(scales), "the model's size");
}

}  // namespace preserve
