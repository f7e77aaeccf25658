// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/weight_type.h"

#include <array>

#include "common/units.h"

namespace preserve {
namespace {

// Scale and zero point of GPTQ and AWQ: 16 and 4 bits.
constexpr double kInt4ScaleBytes = 2.5;

struct TypeFacts {
  const char* name;
  int64_t bits;
};
// In the order of the enumerators.
constexpr std::array<TypeFacts, kWeightTypes.size()> kTypes{
    {{"fp16", 16}, {"int8", 8}, {"fp8", 8}, {"int4", 4}, {"fp4", 4}}};

const TypeFacts& facts_of(WeightType type) {
  return kTypes.at(static_cast<size_t>(type));
}

}  // namespace

const char* to_string(WeightType type) {
  return facts_of(type).name;
}

NumberFormat::NumberFormat(WeightType format) : type(format) {
  if (format == WeightType::int4) group = 128, scale_bytes = kInt4ScaleBytes;
  if (format == WeightType::fp4) group = 16, scale_bytes = 1;
}

int64_t NumberFormat::bytes(int64_t elements) const {
  const int64_t numbers = (checked_mul(elements, facts_of(type).bits, "the model's size") + 7) / 8;
  if (group == 0) return numbers;
  const int64_t groups = (elements + group - 1) / group;
  const double scales = static_cast<double>(groups) * scale_bytes;
  return checked_add(numbers, static_cast<int64_t>(scales), "the model's size");
}

}  // namespace preserve
