// SPDX-License-Identifier: Apache-2.0
// How much a custom allreduce kernel moves, from its own arguments. Only for kernels whose mangled
// name is, letter by letter, that of a known signature, and whose parameters lie as that signature
// says; whatever differs stays unknown:
//
//   vLLM, SGLang  cross_device_reduce_{1,2}stage<T, ranks>(RankData*, RankSignals, Signal*, T*,
//                 int rank, int size)                      size: packs of 16 bytes
//   PyTorch       multimem_all_reduce_kernel<T, alignment>(T*, size_t numel, uint32_t**,
//                 size_t rank, size_t world_size)          numel: elements
//
// (csrc/custom_all_reduce.cuh; CUDASymmetricMemoryOps.cu.)
#pragma once

#include <optional>
#include <string_view>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

// `launch`: the call that said what the kernel is; `kernel`: its mangled name. Nothing when any of
// the above is not so. Function, bytes, type and ranks are set; source params, confidence 0.8.
std::optional<gpu::CollectiveFacts> facts_from_arguments(const Run& run, const Launch& launch,
                                                         std::string_view kernel);

}  // namespace preserve::cuda
