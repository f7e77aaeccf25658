// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/kernel_arguments.h"

#include <charconv>
#include <cstring>
#include <initializer_list>

namespace preserve::cuda {
namespace {

constexpr double kConfidence = 0.8;
constexpr int64_t kPackBytes = 16;
constexpr uint64_t kMostRanks = 1024;
// More than any message that is worth a custom kernel, and far from overflow.
constexpr uint64_t kMostBytes = uint64_t{1} << 40;

struct Type {
  std::string_view mangled, name;
  int64_t bytes;
};
constexpr Type kTypes[] = {
    {"f", "float", 4},
    {"6__half", "half", 2},
    {"13__nv_bfloat16", "__nv_bfloat16", 2},
    {"N3c104HalfE", "c10::Half", 2},
    {"N3c108BFloat16E", "c10::BFloat16", 2},
};

// What a mangled template argument list says: I<type>Li<number>E, and what follows it.
struct Template {
  const Type* type = nullptr;
  uint64_t number = 0;
  std::string_view rest{};
};

std::optional<Template> read_template(std::string_view text) {
  for (const Type& type : kTypes) {
    if (!text.starts_with(type.mangled)) continue;
    std::string_view rest = text.substr(type.mangled.size());
    if (!rest.starts_with("Li")) continue;
    rest.remove_prefix(2);
    Template found{&type};
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), found.number);
    if (error != std::errc()) return std::nullopt;
    found.rest = rest.substr(static_cast<size_t>(end - rest.data()));
    return found;
  }
  return std::nullopt;
}

bool laid_out_as(const Run& run, const Launch& launch,
                 std::initializer_list<ParameterLayout> expected) {
  const auto function = run.functions.find(launch.function);
  if (function == run.functions.end() || !function->second.layout_known ||
      function->second.layout.size() != expected.size() || launch.parameters == kNone ||
      launch.parameters_cut) {
    return false;
  }
  size_t i = 0;
  for (const ParameterLayout& parameter : expected) {
    const ParameterLayout& there = function->second.layout[i++];
    if (there.offset != parameter.offset || there.bytes != parameter.bytes ||
        there.offset + there.bytes > launch.parameter_bytes) {
      return false;
    }
  }
  return true;
}

template <typename Number>
Number argument(const Run& run, const Launch& launch, size_t offset) {
  Number value{};
  std::memcpy(&value, run.parameters.piece(launch.parameters + offset, sizeof(value)),
              sizeof(value));
  return value;
}

gpu::CollectiveFacts allreduce(uint64_t bytes, uint64_t ranks, const Type& type) {
  return {.function = "allreduce",
          .dtype = std::string(type.name),
          .bytes = static_cast<int64_t>(bytes),
          .ranks = static_cast<int64_t>(ranks),
          .source = "params",
          .confidence = kConfidence};
}

std::optional<gpu::CollectiveFacts> cross_device_reduce(const Run& run, const Launch& launch,
                                                        std::string_view kernel) {
  bool named = false;
  for (const std::string_view prefix :
       {"_ZN4vllm26cross_device_reduce_1stageI", "_ZN4vllm26cross_device_reduce_2stageI",
        "_ZN6sglang26cross_device_reduce_1stageI", "_ZN6sglang26cross_device_reduce_2stageI"}) {
    if (!kernel.starts_with(prefix)) continue;
    kernel.remove_prefix(prefix.size());
    named = true;
    break;
  }
  const std::optional<Template> arguments = named ? read_template(kernel) : std::nullopt;
  if (!arguments || arguments->rest != "EEEvPNS_8RankDataENS_11RankSignalsEPNS_6SignalEPT_ii" ||
      // RankSignals is aligned to 16 bytes.
      !laid_out_as(run, launch, {{0, 8}, {16, 64}, {80, 8}, {88, 8}, {96, 4}, {100, 4}})) {
    return std::nullopt;
  }
  const auto rank = argument<int32_t>(run, launch, 96), size = argument<int32_t>(run, launch, 100);
  if (arguments->number < 2 || arguments->number > 8 || rank < 0 ||
      static_cast<uint64_t>(rank) >= arguments->number || size <= 0) {
    return std::nullopt;
  }
  return allreduce(static_cast<uint64_t>(size) * kPackBytes, arguments->number, *arguments->type);
}

std::optional<gpu::CollectiveFacts> multimem_all_reduce(const Run& run, const Launch& launch,
                                                        std::string_view kernel) {
  // Of internal linkage: what stands before the name differs from build to build.
  constexpr std::string_view kName = "26multimem_all_reduce_kernelI";
  const size_t at = kernel.find(kName);
  if (!kernel.starts_with("_Z") || at == std::string_view::npos) return std::nullopt;
  const std::optional<Template> arguments = read_template(kernel.substr(at + kName.size()));
  // In a namespace or not.
  if (!arguments || (arguments->rest != "EEvPT_mPPjmm" && arguments->rest != "EEEvPT_mPPjmm") ||
      !laid_out_as(run, launch, {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}})) {
    return std::nullopt;
  }
  const auto count = argument<uint64_t>(run, launch, 8), rank = argument<uint64_t>(run, launch, 24),
             ranks = argument<uint64_t>(run, launch, 32);
  const auto element = static_cast<uint64_t>(arguments->type->bytes);
  if (count == 0 || count > kMostBytes / element || ranks < 2 || ranks > kMostRanks ||
      rank >= ranks) {
    return std::nullopt;
  }
  return allreduce(count * element, ranks, *arguments->type);
}

}  // namespace

std::optional<gpu::CollectiveFacts> facts_from_arguments(const Run& run, const Launch& launch,
                                                         std::string_view kernel) {
  if (launch.kind == LaunchKind::graph || launch.kind == LaunchKind::copy) return std::nullopt;
  if (auto facts = cross_device_reduce(run, launch, kernel)) return facts;
  return multimem_all_reduce(run, launch, kernel);
}

}  // namespace preserve::cuda
