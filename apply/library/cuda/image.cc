// SPDX-License-Identifier: Apache-2.0
// The prefetch kernels as nvcc made them.
#include "apply/library/cuda/process.h"

asm(".pushsection .rodata\n"
    ".balign 64\n"
    ".hidden preserve_prefetch_image\n"
    ".global preserve_prefetch_image\n"
    "preserve_prefetch_image:\n"
    ".incbin \"" PRESERVE_PREFETCH_IMAGE
    "\"\n"
    ".popsection\n");

extern "C" __attribute__((visibility("hidden"))) const char preserve_prefetch_image[];

const void* preserve::apply::prefetch_image() {
  return preserve_prefetch_image;
}
