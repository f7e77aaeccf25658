// SPDX-License-Identifier: Apache-2.0
// Of NVTX only the memory regions matter here; ranges and marks cost one empty call.
#include <nvtx3/nvToolsExt.h>

#include "apply/library/regions.h"
#include "hooks/listener.h"

namespace preserve {

using namespace apply;

bool listener::nvtx_wanted() {
  return wants_regions();
}
int listener::push(uint16_t, std::string_view, const nvtx::Event*) {
  return NVTX_NO_PUSH_POP_TRACKING;
}
int listener::pop(uint16_t, const nvtx::Event*) {
  return NVTX_NO_PUSH_POP_TRACKING;
}
void listener::mark(uint16_t, std::string_view, const nvtx::Event*) {}
uint64_t listener::start(uint16_t, uint64_t range, std::string_view, const nvtx::Event*) {
  return range;
}
void listener::end(uint16_t, uint64_t, const nvtx::Event*) {}
void listener::define_schema(uint16_t, uint64_t, const nvtxPayloadSchemaAttr_v1&) {}
void listener::define_enumeration(uint16_t, uint64_t, const nvtxPayloadEnumAttr_v1&) {}

void listener::define(nvtx::Definition what, uint16_t, const nvtx::Numbers& numbers,
                      std::string_view text) {
  if (!wants_regions()) return;
  switch (what) {
    case nvtx::Definition::string:
      return tensors().define_string(numbers.id, text);
    case nvtx::Definition::region:
      return tensors().add_region(numbers.id, numbers.parent, numbers.base, numbers.bytes);
    case nvtx::Definition::region_name:
      tensors().name_region(numbers.id, numbers.base, numbers.parent, text);
      return region_named();
    case nvtx::Definition::region_resize:
      return tensors().resize_region(numbers.base, numbers.bytes);
    case nvtx::Definition::region_unregister:
      return tensors().remove_region(numbers.id, numbers.base);
    case nvtx::Definition::heap_unregister:
    case nvtx::Definition::heap_reset:
      return tensors().remove_heap(numbers.id);
    case nvtx::Definition::domain:
    case nvtx::Definition::category:
    case nvtx::Definition::thread_name:
    case nvtx::Definition::resource:
    case nvtx::Definition::heap:
      return;
  }
}

}  // namespace preserve
