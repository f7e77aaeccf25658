// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "profiler/gpu/launch_join.h"

namespace preserve::cuda {
namespace {

constexpr double kDescriptor = 0.95, kNamed = 0.9, kStart = 0.6, kInside = 0.4, kInStruct = 0.1;
constexpr size_t kDescriptorBytes = sizeof(TensorMapBody::descriptor);
constexpr size_t kStemBytes = 64;

// Which of many overlapping stretches of memory hold an address at a moment.
template <typename Memory>
class MemoryIndex {
 public:
  explicit MemoryIndex(const std::vector<Memory>& all) : all_(all) {
    order_.resize(all.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::ranges::stable_sort(order_,
                             [&](uint32_t a, uint32_t b) { return all[a].base < all[b].base; });
    uint64_t reach = 0;
    for (const uint32_t index : order_) {
      const uint64_t start = all[index].base;
      const uint64_t end = start + static_cast<uint64_t>(all[index].bytes);
      reach = std::max(reach, end < start ? UINT64_MAX : end);
      reach_.push_back(reach);
    }
  }
  // The one that starts last, so of nested ones the innermost; kNone when there is none.
  uint32_t find(uint64_t address, int64_t time_ns) const {
    auto after = std::upper_bound(order_.begin(), order_.end(), address,
                                  [&](uint64_t a, uint32_t index) { return a < all_[index].base; });
    for (auto i = static_cast<size_t>(after - order_.begin()); i-- > 0 && reach_[i] > address;) {
      const Memory& memory = all_[order_[i]];
      if (address - memory.base < static_cast<uint64_t>(memory.bytes) &&
          memory.from_ns <= time_ns + gpu::kClockSlackNs && time_ns < memory.to_ns) {
        return order_[i];
      }
    }
    return kNone;
  }

 private:
  const std::vector<Memory>& all_;
  std::vector<uint32_t> order_;  // by base
  std::vector<uint64_t> reach_;  // furthest end of all up to here
};

// Bytes from the first to the last element; 0 when they are not known.
int64_t extent_bytes(const TensorMapBody& map) {
  if (map.rank == 0 || map.rank > kMaxTensorMapRank || map.element_bytes == 0) return 0;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < map.rank; ++i) {
    const uint64_t stride = i == 0 ? map.element_bytes : map.strides[i - 1];
    uint64_t part = 0;
    if (map.dims[i] == 0 || __builtin_mul_overflow(map.dims[i] - 1, stride, &part) ||
        __builtin_add_overflow(sum, part, &sum)) {
      return 0;
    }
  }
  sum += map.element_bytes;
  return sum <= INT64_MAX ? static_cast<int64_t>(sum) : 0;
}

// "void cutlass::device_kernel<...>(...)" -> cutlass::device_kernel: survives a restart.
std::string stem(const std::string& name) {
  if (std::string out = gpu::qualified_name(name); !out.empty()) return out.substr(0, kStemBytes);
  std::string out = name.substr(0, name.find_first_of("<("));
  if (const size_t space = out.rfind(' '); space != std::string::npos) out.erase(0, space + 1);
  return out.empty() ? name.substr(0, kStemBytes) : out.substr(0, kStemBytes);
}

bool reads_weights(const gpu::KernelIdentity& identity) {
  return identity.kernel_class == gpu::KernelClass::matmul ||
         identity.kernel_class == gpu::KernelClass::embedding;
}

}  // namespace

// One pointer that a launch was given.
struct Operands::Use {
  uint32_t launch = 0;
  uint32_t position = 0;  // offset in the parameters
  uint64_t address = 0;
  uint32_t named = kNone, allocation = kNone;
  int64_t exact_bytes = 0;  // of a descriptor
  bool in_struct = false;
  uint32_t block = kNone;
};

// A stretch of an allocation, from one pointer to the next.
struct Operands::Block {
  uint32_t allocation = 0;
  uint64_t address = 0;
  int64_t bytes = 0;
  int64_t exact_bytes = 0, fastest_bytes = 0;
  std::set<std::pair<uint32_t, uint32_t>> users{};  // (name of the kernel, position)
  uint32_t first_use = 0;
  TensorId row{};
};

Operands::Operands(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                   const std::vector<NamedMemory>& named, int64_t bandwidth_bytes_per_s,
                   ProcessId process, TraceDb& db)
    : bandwidth_(bandwidth_bytes_per_s), lists_(1) {
  if (run.parameters.empty()) return;
  launch_names_.resize(run.launches.size(), 0);
  longest_ns_.resize(run.launches.size(), 0);
  list_of_launch_.resize(run.launches.size(), 0);
  for (const Activity& activity : run.activities) {
    if (activity.origin == kNone || activity.is_copy) continue;
    launch_names_[activity.origin] = activity.name;
    longest_ns_[activity.origin] =
        std::max(longest_ns_[activity.origin], activity.end_ns - activity.start_ns);
  }
  const GrowingArray<Use> uses = find_uses(run, named);
  const Blocks blocks = add_blocks(run, identities, uses, process, db);
  add_lists(run, identities, named, uses, blocks);
}

const std::vector<Operand>& Operands::of(uint32_t launch) const {
  return lists_[launch < list_of_launch_.size() ? list_of_launch_[launch] : 0];
}

GrowingArray<Operands::Use> Operands::find_uses(const Run& run,
                                                const std::vector<NamedMemory>& named) {
  const MemoryIndex<NamedMemory> regions(named);
  const MemoryIndex<Allocation> allocations(run.allocations);
  std::map<std::string_view, const TensorMapBody*> descriptors;
  for (const TensorMap& map : run.tensor_maps) {
    descriptors[{reinterpret_cast<const char*>(map.body.descriptor), kDescriptorBytes}] = &map.body;
  }
  GrowingArray<Use> uses;
  const auto add = [&](uint32_t launch, uint32_t position, uint64_t address, int64_t exact_bytes,
                       bool in_struct) {
    const int64_t time_ns = run.launches[launch].time_ns;
    Use use{launch, position,    address,  regions.find(address, time_ns),
            kNone,  exact_bytes, in_struct};
    if (use.named == kNone) use.allocation = allocations.find(address, time_ns);
    if (use.named != kNone || use.allocation != kNone) uses.push_back(use);
  };
  for (uint32_t i = 0; i < run.launches.size(); ++i) {
    const Launch& launch = run.launches[i];
    // Only what ran counts: a pointer of a kernel that left no record bounds nothing that is used.
    if (launch.parameters == kNone || launch_names_[i] == 0) continue;
    ++summary_.launches;
    const std::string_view bytes(run.parameters.piece(launch.parameters, launch.parameter_bytes),
                                 launch.parameter_bytes);
    const auto function = run.functions.find(launch.function);
    std::set<uint32_t> whole;  // parameters that are one word
    if (function != run.functions.end()) {
      for (const ParameterLayout& at : function->second.layout) {
        if (at.bytes == 8) whole.insert(at.offset);
      }
    }
    for (uint32_t at = 0; at + 8 <= bytes.size();) {
      if (at % 64 == 0 && at + kDescriptorBytes <= bytes.size() && !descriptors.empty()) {
        const auto map = descriptors.find(bytes.substr(at, kDescriptorBytes));
        if (map != descriptors.end()) {
          add(i, at, map->second->address, extent_bytes(*map->second), false);
          at += kDescriptorBytes;
          continue;
        }
      }
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, sizeof(word));
      if (word != 0) add(i, at, word, 0, whole.count(at) == 0);
      at += 8;
    }
  }
  return uses;
}

Operands::Blocks Operands::add_blocks(const Run& run,
                                      const std::vector<gpu::KernelIdentity>& identities,
                                      const GrowingArray<Use>& uses, ProcessId process,
                                      TraceDb& db) {
  Blocks blocks;
  for (uint32_t i = 0; i < uses.size(); ++i) {
    const Use& use = uses[i];
    if (use.allocation == kNone) continue;
    const auto [entry, fresh] = blocks.try_emplace({use.allocation, use.address});
    Block& block = entry->second;
    if (fresh) block.first_use = i;
    block.users.insert({launch_names_[use.launch], use.position});
    block.exact_bytes = std::max(block.exact_bytes, use.exact_bytes);
    if (bandwidth_ > 0) {
      const double moved =
          static_cast<double>(longest_ns_[use.launch]) * 1e-9 * static_cast<double>(bandwidth_);
      block.fastest_bytes = std::max(block.fastest_bytes, static_cast<int64_t>(moved));
    }
  }
  for (auto entry = blocks.begin(); entry != blocks.end(); ++entry) {
    const auto next = std::next(entry);
    Block& block = entry->second;
    block.allocation = entry->first.first;
    block.address = entry->first.second;
    const Allocation& allocation = run.allocations[block.allocation];
    const bool bounded = next != blocks.end() && next->first.first == block.allocation;
    const uint64_t end =
        bounded ? next->first.second : allocation.base + static_cast<uint64_t>(allocation.bytes);
    block.bytes = static_cast<int64_t>(end - block.address);
    if (block.exact_bytes > 0) {
      block.bytes = std::min(block.bytes, block.exact_bytes);
    } else if (block.fastest_bytes > 0) {
      block.bytes = std::min(block.bytes, block.fastest_bytes);
    }
  }
  // Rows in the order of first use; the n-th block of one operand has the same name in every run.
  std::vector<Block*> order;
  order.reserve(blocks.size());
  for (auto& [key, block] : blocks) order.push_back(&block);
  std::ranges::sort(order, {}, &Block::first_use);
  std::map<std::pair<uint32_t, uint32_t>, int> ordinals;
  for (Block* block : order) {
    const Use& first = uses[block->first_use];
    const uint32_t name = launch_names_[first.launch];
    const bool one_reader = block->users.size() == 1 && reads_weights(identities[name]);
    const Allocation& allocation = run.allocations[block->allocation];
    TensorRow row{
        .process = process,
        .name = db.intern(fmt::format("{}.{}.arg{}", stem(run.names[name]),
                                      ordinals[{name, first.position}]++, first.position)),
        .role = one_reader ? TensorRole::weight : TensorRole::unknown,
        .base = static_cast<int64_t>(block->address),
        .bytes = block->bytes,
        .source = "params",
        .valid_from_ns = allocation.from_ns};
    if (allocation.to_ns != INT64_MAX) row.valid_to_ns = allocation.to_ns;
    block->row = db.add(row);
  }
  return blocks;
}

// Uses of one launch stand together. Its list has the named regions first.
void Operands::add_lists(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                         const std::vector<NamedMemory>& named, const GrowingArray<Use>& uses,
                         const Blocks& blocks) {
  std::vector<Operand> of_named, of_blocks;
  for (size_t i = 0; i < uses.size(); ++i) {
    const Use use = uses[i];
    const double in_struct = use.in_struct ? kInStruct : 0;
    if (use.named != kNone) {
      const NamedMemory& memory = named[use.named];
      const auto offset = static_cast<int64_t>(use.address - memory.base);
      const int64_t rest = static_cast<int64_t>(memory.bytes) - offset;
      of_named.push_back(
          {memory.row, offset, use.exact_bytes > 0 ? std::min(use.exact_bytes, rest) : rest,
           AccessMode::read, (use.exact_bytes > 0 ? kDescriptor : kNamed) - in_struct});
    } else {
      const Block& block = blocks.at({use.allocation, use.address});
      const bool start = use.address == run.allocations[use.allocation].base;
      const double confidence =
          use.exact_bytes > 0 ? kDescriptor : (start ? kStart : kInside) - in_struct;
      const bool stores =
          identities[launch_names_[use.launch]].kernel_class == gpu::KernelClass::kv_store;
      of_blocks.push_back(
          {block.row, 0, block.bytes, stores ? AccessMode::write : AccessMode::read, confidence});
    }
    if (i + 1 < uses.size() && uses[i + 1].launch == use.launch) continue;
    of_named.insert(of_named.end(), of_blocks.begin(), of_blocks.end());
    list_of_launch_[use.launch] = list(of_named);
    ++summary_.matched;
    of_named.clear();
    of_blocks.clear();
  }
}

uint32_t Operands::list(const std::vector<Operand>& operands) {
  const auto [known, fresh] =
      known_lists_.try_emplace(operands, static_cast<uint32_t>(lists_.size()));
  if (fresh) lists_.push_back(operands);
  return known->second;
}

}  // namespace preserve::cuda
