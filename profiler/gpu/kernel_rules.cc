// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/kernel_rules.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <sstream>

#include "common/error.h"
#include "common/glob.h"
#include "common/mangled_name.h"
#include "common/output_file.h"
#include "common/text.h"
#include "profiler/communication_kernels.h"
#include "profiler/gpu/records.h"

namespace preserve::gpu {
namespace {

constexpr std::array kClassNames{"collective", "p2p",  "matmul",    "experts",  "attention",
                                 "kv_store",   "norm", "embedding", "sampling", "elementwise",
                                 "reduction",  "copy", "other"};

struct BuiltIn {
  const char* pattern;
  KernelClass kernel_class;
};

// Order matters: the particular before the general. kCommunicationKernels come first, so that a
// fused "allreduce_rmsnorm" counts as the collective it waits for.
constexpr BuiltIn kBuiltIn[] = {
    // Attention before matmul: many attention kernels are built from GEMM templates.
    {"*reshape_and_cache*", KernelClass::kv_store},
    {"*store_kv*", KernelClass::kv_store},
    {"*kv_cache*store*", KernelClass::kv_store},
    {"*rope_store*", KernelClass::kv_store},
    {"*append_paged_kv*", KernelClass::kv_store},
    {"*concat_and_cache*", KernelClass::kv_store},
    {"*create_*kv_indices*", KernelClass::other},
    {"*paged_attention*reduce*", KernelClass::reduction},
    {"*mla*reduce*", KernelClass::reduction},
    {"*splitkv*combine*", KernelClass::reduction},
    {"*combine*splitkv*", KernelClass::reduction},
    {"*flash_fwd_splitkv_combine*", KernelClass::reduction},
    {"*mergestate*", KernelClass::reduction},
    {"*flash_fwd*", KernelClass::attention},
    {"*flash_attn*", KernelClass::attention},
    {"*flashattn*", KernelClass::attention},
    {"*flash_bwd*", KernelClass::attention},
    {"*fmha*", KernelClass::attention},
    {"*paged_attention*", KernelClass::attention},
    {"*attention*", KernelClass::attention},
    {"*batchdecodewithpagedkv*", KernelClass::attention},
    {"*batchprefillwithpagedkv*", KernelClass::attention},
    {"*batchprefillwithragged*", KernelClass::attention},
    {"*flash_mla*", KernelClass::attention},
    {"*flashmla*", KernelClass::attention},
    {"*mla_decode*", KernelClass::attention},
    {"*mla_fwd*", KernelClass::attention},
    {"*masked_multihead*", KernelClass::attention},
    {"*fwd_grouped_kernel_stage1*", KernelClass::attention},
    {"*_fwd_kernel_stage1*", KernelClass::attention},
    {"*_fwd_kernel_stage2*", KernelClass::reduction},
    // Routed experts: which weights are read depends on the tokens.
    {"*splitkreduce*", KernelClass::reduction},
    {"*splitk_reduce*", KernelClass::reduction},
    {"*moe*routing*", KernelClass::other},
    {"*moe*finalize*", KernelClass::reduction},
    {"*moe*gemm*", KernelClass::experts},
    {"*fused_moe*", KernelClass::experts},
    {"*moe_mmk*", KernelClass::experts},
    {"*moe*stage1*", KernelClass::experts},
    {"*moe*stage2*", KernelClass::experts},
    {"*grouped*gemm*", KernelClass::experts},
    {"*group_gemm*", KernelClass::experts},
    {"*groupgemm*", KernelClass::experts},
    {"bmm_*dynbatch*", KernelClass::experts},
    {"bmm_*routed*", KernelClass::experts},
    {"bmm_*swiglu*", KernelClass::experts},
    {"bmm_bfloat16_*", KernelClass::experts},
    {"bmm_e4m3_*", KernelClass::experts},
    {"bmm_mxe*", KernelClass::experts},
    // Matrix products.
    {"*gemmk1*", KernelClass::matmul},
    {"*gemm*", KernelClass::matmul},
    {"*gemv*", KernelClass::matmul},
    {"nvjet_*", KernelClass::matmul},
    {"cijk_*", KernelClass::matmul},
    {"*cutlass*kernel2*", KernelClass::matmul},
    {"*s884*", KernelClass::matmul},
    {"*s1688*", KernelClass::matmul},
    {"*s16816*", KernelClass::matmul},
    {"*marlin*", KernelClass::matmul},
    {"*machete*", KernelClass::matmul},
    {"*matmul*", KernelClass::matmul},
    {"triton_tem_fused_*mm_*", KernelClass::matmul},
    {"*_mm_kernel*", KernelClass::matmul},
    {"*wvsplitk*", KernelClass::matmul},
    {"*llmm*", KernelClass::matmul},
    // The rest of a decoder layer.
    {"*argmax*", KernelClass::sampling},
    {"*sampling*", KernelClass::sampling},
    {"*topk*", KernelClass::sampling},
    {"*rmsnorm*", KernelClass::norm},
    {"*rms_norm*", KernelClass::norm},
    {"*layernorm*", KernelClass::norm},
    {"*layer_norm*", KernelClass::norm},
    {"*qknorm*", KernelClass::norm},
    {"*batch_norm*", KernelClass::norm},
    {"*embedding*", KernelClass::embedding},
    {"*indexselect*", KernelClass::embedding},
    {"*rotary*", KernelClass::elementwise},
    {"*act_and_mul*", KernelClass::elementwise},
    {"*silu*", KernelClass::elementwise},
    {"*elementwise*", KernelClass::elementwise},
    {"*catarray*", KernelClass::copy},
    {"memcpy *", KernelClass::copy},
    {"memset *", KernelClass::copy},
    {"zecommandlistappendmemory*", KernelClass::copy},
    {"zecommandlistappendimage*", KernelClass::copy},
    {"*copybuffer*", KernelClass::copy},
    {"*fillbuffer*", KernelClass::copy},
    {"*reduce*", KernelClass::reduction},
};

// Only this much of a name is looked at: C++ template arguments go on for kilobytes and name types,
// not operations.
constexpr size_t kNameLimit = 400;

// The name without its template arguments: "void at::native::reduce_kernel<...>(...)" has arguments
// that name other operations (an ArgMax in a reduction, an elementwise functor in a copy).
std::string_view stem(std::string_view name) {
  const size_t bracket = name.find('<');
  if (bracket == std::string_view::npos || bracket == 0) return name;
  return name.substr(0, bracket);
}

}  // namespace

std::string qualified_name(std::string_view mangled) {
  std::string out;
  each_identifier(mangled, [&out](std::string_view part) {
    if (!out.empty()) out += "::";
    out += part;
  });
  return out;
}

bool reads_operands(KernelClass kernel_class) {
  switch (kernel_class) {
    case KernelClass::elementwise:
    case KernelClass::reduction:
    case KernelClass::copy:
    case KernelClass::sampling:
    case KernelClass::kv_store:
      return false;
    default:
      return true;
  }
}

const char* to_text(KernelClass kernel_class) {
  return kClassNames[static_cast<size_t>(kernel_class)];
}

OpKind op_kind_of(KernelClass kernel_class) {
  switch (kernel_class) {
    case KernelClass::collective:
      return OpKind::collective;
    case KernelClass::p2p:
      return OpKind::p2p;
    case KernelClass::copy:
      return OpKind::copy;
    default:
      return OpKind::compute;
  }
}

KernelRules::KernelRules() {
  for (const CommunicationKernel& known : kCommunicationKernels) {
    rules_.push_back({std::string(known.pattern),
                      known.point_to_point ? KernelClass::p2p : KernelClass::collective,
                      known.function});
  }
  for (const BuiltIn& rule : kBuiltIn) rules_.push_back({rule.pattern, rule.kernel_class});
}

void KernelRules::add_file(const std::filesystem::path& path) {
  std::istringstream lines(read_text_file(path));
  std::vector<KernelRule> added;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    KernelRule rule;
    std::string class_name, surplus;
    if (!(words >> rule.pattern)) continue;
    words >> class_name >> rule.function;
    const auto* found = std::ranges::find(kClassNames, class_name);
    if (found == kClassNames.end()) {
      throw input_error(
          "{}:{}: invalid kernel class '{}': expected PATTERN CLASS [FUNCTION] with CLASS one "
          "of {}",
          path.string(), number, printable(class_name), fmt::join(kClassNames, ", "));
    }
    if (words >> surplus) {
      throw input_error("{}:{}: unexpected '{}': expected PATTERN CLASS [FUNCTION]", path.string(),
                        number, printable(surplus));
    }
    rule.kernel_class = static_cast<KernelClass>(found - kClassNames.begin());
    rule.pattern = lower_case(std::string_view(rule.pattern).substr(0, kNameLimit));
    added.push_back(std::move(rule));
  }
  rules_.insert(rules_.begin(), added.begin(), added.end());
}

KernelIdentity KernelRules::identify(std::string_view name) const {
  const std::string whole = lower_case(name.substr(0, kNameLimit));
  const std::string qualified = lower_case(qualified_name(name)).substr(0, kNameLimit);
  const std::string_view short_name = qualified.empty() ? stem(whole) : qualified;
  // torch.compile names a kernel by all operators fused into it, also by a collective whose result
  // it only takes.
  const bool fused = glob_matches("triton_???_fused_*", short_name);
  const size_t of_layers = rules_.size() - std::size(kBuiltIn);
  const size_t of_communication = of_layers - std::size(kCommunicationKernels);
  for (const std::string_view candidate : {short_name, std::string_view(whole)}) {
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (fused && i >= of_communication && i < of_layers) continue;
      const KernelRule& rule = rules_[i];
      if (glob_matches(rule.pattern, candidate)) return {rule.kernel_class, rule.function};
    }
    if (short_name.size() == whole.size()) break;
  }
  return {};
}

}  // namespace preserve::gpu
