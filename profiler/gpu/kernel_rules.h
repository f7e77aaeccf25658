// SPDX-License-Identifier: Apache-2.0
// What a kernel is, by its name: a table of rules, first match wins, that users may put their
// own lines before (--kernel-rules FILE). A rule's pattern is a glob (* and ?) over the
// lower-cased name. Names say which operation, never how many bytes.
//
// Names come from NCCL 2.10-2.28, RCCL, vLLM, SGLang, FlashInfer, TensorRT-LLM, DeepEP, cuBLAS,
// CUTLASS, hipBLASLt (Tensile), AITER and PyTorch, as seen in recorded traces and in their sources.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "db/trace_db.h"

namespace preserve::gpu {

enum class KernelClass {
  collective,
  p2p,
  matmul,
  experts,
  attention,
  kv_store,
  norm,
  embedding,
  sampling,
  elementwise,
  reduction,
  copy,
  other
};
const char* to_text(KernelClass kernel_class);
OpKind op_kind_of(KernelClass kernel_class);
constexpr bool communicates(KernelClass kernel_class) {
  return kernel_class == KernelClass::collective || kernel_class == KernelClass::p2p;
}
// Of one that does not communicate: does it read the operands of the operator around it, and not
// what another kernel of the same operator left (split-k reductions, copies, activation functions)?
bool reads_operands(KernelClass kernel_class);

struct KernelRule {
  std::string pattern;  // lower case
  KernelClass kernel_class = KernelClass::other;
  std::string function{};  // of collectives: allreduce, allgather, ...
};

struct KernelIdentity {
  KernelClass kernel_class = KernelClass::other;
  std::string function{};  // empty: not a collective, or unknown which
};

class KernelRules {
 public:
  KernelRules();  // the built-in table
  // Lines "pattern class [function]", # comments; they come before the built-in rules.
  // input_error with the line number for anything else.
  void add_file(const std::filesystem::path& path);
  KernelIdentity identify(std::string_view name) const;

 private:
  std::vector<KernelRule> rules_;
};

// What a mangled name (Itanium C++ ABI) is the name of, up to its template arguments, as CUPTI
// gives them: "_ZN2at6native13reduce_kernelILi512E..." -> at::native::reduce_kernel. Empty for
// other names, and for what does not begin with identifiers. Nothing is expanded, so any text is
// safe.
std::string qualified_name(std::string_view mangled);

}  // namespace preserve::gpu
