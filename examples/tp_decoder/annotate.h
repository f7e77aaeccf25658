// SPDX-License-Identifier: Apache-2.0
// All the decoder says to tools, through NVTX: which module runs now (ranges), and which memory is
// which tensor (memory regions). A tool joins the two by name: the region
// "layers.3.mlp.gate_up.weight" belongs to the range "layers.3.mlp.gate_up". Without a tool in the
// process every call here is a test of a null pointer.
#pragma once

#include <cstddef>
#include <span>
#include <string>

struct nvtxStringRegistration_st;  // NVTX's own name for what a registered string's handle points
                                   // to
struct nvtxMemHeap_v1;

namespace tp_decoder {

// A module's name, given to the tool once, so that each Scope passes a handle and no text.
class Module {
 public:
  explicit Module(std::string name);
  const std::string& name() const { return name_; }

 private:
  friend class Scope;
  std::string name_;
  nvtxStringRegistration_st* handle_;
};

// The module runs from construction to destruction, on this thread.
class Scope {
 public:
  explicit Scope(const Module& module);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

// Memory that holds one tensor.
struct Region {
  std::string name;
  void* base = nullptr;
  size_t bytes = 0;
};

// The allocation that regions are parts of. Tools may forbid access to a heap outside its regions.
nvtxMemHeap_v1* register_heap(const std::string& name, const void* base, size_t bytes);
void register_regions(nvtxMemHeap_v1* heap, std::span<const Region> regions);
// Same bases, new sizes: how much of each tensor is in use now.
void resize_regions(std::span<const Region> regions);

}  // namespace tp_decoder
