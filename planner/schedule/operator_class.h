// SPDX-License-Identifier: Apache-2.0
// What kind of operator prefetches move beside: kinds are slowed down differently, and a device
// file says by how much (operator_slowdown_per_byte_ns of a method). A fact of the step.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>

namespace preserve {

struct FoldedStep;
struct StepOp;

enum class OperatorClass : uint8_t {
  product,    // a matrix product, or another operator that reads kLeastProductBytes of weights
  attention,  // reads keys and values
  small       // all others that compute: norms, activations
};
inline constexpr OperatorClass kOperatorClasses[] = {
    OperatorClass::product, OperatorClass::attention, OperatorClass::small};
inline constexpr size_t kOperatorClassCount = std::size(kOperatorClasses);
inline constexpr int64_t kLeastProductBytes = 64 << 10;  // norms read less

const char* to_string(OperatorClass operator_class);  // as in device.json

// Nothing: it communicates or copies, or what it touches is not known.
std::optional<OperatorClass> operator_class(const FoldedStep& step, const StepOp& op);

// By class: ns that an operator is lengthened per byte prefetched beside it, beyond what sharing
// the memory costs; nothing: not measured.
class OperatorSlowdowns {
 public:
  std::optional<double>& operator[](OperatorClass of) { return ns_[static_cast<size_t>(of)]; }
  const std::optional<double>& operator[](OperatorClass of) const {
    return ns_[static_cast<size_t>(of)];
  }
  bool any() const {
    for (const std::optional<double>& ns : ns_) {
      if (ns) return true;
    }
    return false;
  }

 private:
  std::array<std::optional<double>, kOperatorClassCount> ns_{};
};

}  // namespace preserve
