// SPDX-License-Identifier: Apache-2.0
// An NVTX injection library that writes each call it gets as one line to the file $NVTX_PROBE_OUT:
// push NAME, pop, heap NAME BYTES, region BASE BYTES, name BASE NAME, resize BASE BYTES.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

namespace {

std::FILE* out() {
  static std::FILE* const file = std::fopen(std::getenv("NVTX_PROBE_OUT"), "we");
  return file;
}

std::deque<std::string>& strings() {
  static std::deque<std::string> kept;  // a deque: handles are addresses, which must not move
  return kept;
}

nvtxStringHandle_t register_string(nvtxDomainHandle_t, const char* text) {
  strings().emplace_back(text);
  return reinterpret_cast<nvtxStringHandle_t>(&strings().back());
}

int push(nvtxDomainHandle_t, const nvtxEventAttributes_t* event) {
  const auto* name = reinterpret_cast<const std::string*>(event->message.registered);
  std::fprintf(out(), "push %s\n", name->c_str());
  return 0;
}

int pop(nvtxDomainHandle_t) {
  std::fprintf(out(), "pop\n");
  return 0;
}

nvtxMemHeapHandle_t register_heap(nvtxDomainHandle_t, const nvtxMemHeapDesc_t* heap) {
  const auto* range = static_cast<const nvtxMemVirtualRangeDesc_t*>(heap->typeSpecificDesc);
  std::fprintf(out(), "heap %s %zu\n", heap->message.ascii, range->size);
  return static_cast<nvtxMemHeapHandle_t>(const_cast<void*>(range->ptr));
}

void print_ranges(const char* verb, const void* elements, size_t count) {
  const auto* ranges = static_cast<const nvtxMemVirtualRangeDesc_t*>(elements);
  for (size_t i = 0; i < count; ++i) {
    std::fprintf(out(), "%s %p %zu\n", verb, ranges[i].ptr, ranges[i].size);
  }
}

void register_regions(nvtxDomainHandle_t, const nvtxMemRegionsRegisterBatch_t* batch) {
  print_ranges("region", batch->regionDescElements, batch->regionCount);
}

void resize_regions(nvtxDomainHandle_t, const nvtxMemRegionsResizeBatch_t* batch) {
  print_ranges("resize", batch->regionDescElements, batch->regionDescCount);
}

void name_regions(nvtxDomainHandle_t, const nvtxMemRegionsNameBatch_t* batch) {
  for (size_t i = 0; i < batch->regionCount; ++i) {
    const nvtxMemRegionNameDesc_t& named = batch->regionElements[i];
    std::fprintf(out(), "name %p %s\n", named.region.pointer, named.name.ascii);
  }
}

template <typename Function>
intptr_t slot(Function* function) {
  return reinterpret_cast<intptr_t>(function);
}

}  // namespace

extern "C" NVTX_DYNAMIC_EXPORT int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) return 0;
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  *table[NVTX_CBID_CORE2_DomainRegisterStringA] =
      reinterpret_cast<NvtxFunctionPointer>(register_string);
  return 1;
}

extern "C" NVTX_DYNAMIC_EXPORT int InitializeInjectionNvtxExtension(nvtxExtModuleInfo_t* module) {
  if (module->moduleId != NVTX_EXT_MODULEID_MEM) return 0;
  intptr_t* slots = module->segments[0].functionSlots;
  slots[NVTX3EXT_CBID_nvtxMemHeapRegister] = slot(register_heap);
  slots[NVTX3EXT_CBID_nvtxMemRegionsRegister] = slot(register_regions);
  slots[NVTX3EXT_CBID_nvtxMemRegionsResize] = slot(resize_regions);
  slots[NVTX3EXT_CBID_nvtxMemRegionsName] = slot(name_regions);
  return 1;
}
