// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/tensors.h"

#include <algorithm>
#include <set>
#include <utility>

#include "db/utf8.h"
#include "hooks/memory/allocations.h"

namespace preserve {
namespace {

constexpr int64_t kForever = INT64_MAX;
constexpr std::string_view kCacheWords[] = {"kv",      "kv_cache",  "kvcache",     "k_cache",
                                            "v_cache", "key_cache", "value_cache", "cache"};
constexpr std::string_view kWeightWords[] = {"weight", "weights", "bias",      "qweight",
                                             "scales", "qzeros",  "parameters"};

template <size_t N>
bool one_of(std::string_view word, const std::string_view (&words)[N]) {
  return std::ranges::find(words, word) != std::end(words);
}

// Any component of a cache's name says so; of a weight's name only the last does.
TensorRole role_of_words(std::string_view name) {
  TensorRole role = TensorRole::unknown;
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view word = name.substr(0, dot);
    if (one_of(word, kCacheWords)) return TensorRole::kv;
    role = one_of(word, kWeightWords) ? TensorRole::weight : TensorRole::unknown;
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return role;
}

}  // namespace

TensorRole tensor_role(std::string_view name, std::string_view heap) {
  const TensorRole own = role_of_words(name);
  return own != TensorRole::unknown ? own : role_of_words(heap);
}

Tensors::Tensors(TraceDb& db, Names& names, ProcessId process, std::vector<RegionEvent> events,
                 std::span<const Touch> touches) {
  std::ranges::stable_sort(events, {}, &RegionEvent::ns);
  for (const RegionEvent& event : events) apply(event);
  for (Region& region : regions_) {
    if (region.live) end_period(region, kForever);
  }
  add_rows(db, names, process, touches);
}

Tensors::Region* Tensors::find_live(const RegionEvent& event) {
  const auto& map = event.id != 0 ? by_id_ : by_base_;
  const auto found = map.find(event.id != 0 ? event.id : event.base);
  if (found != map.end() && regions_[found->second].live) return &regions_[found->second];
  ++unmatched_;
  unmatched_uncounted_ += event.counted ? 0 : 1;
  return nullptr;
}

void Tensors::end_period(Region& region, int64_t ns) {
  if (ns > region.from_ns) region.periods.push_back({region.from_ns, ns, region.bytes, {}});
}

void Tensors::apply(const RegionEvent& event) {
  switch (event.kind) {
    case RegionEvent::heap:
      heaps_[event.id] = event.text;
      return;
    case RegionEvent::heap_end:
    case RegionEvent::heap_reset:
      for (const size_t index : by_heap_[event.id]) {
        if (!regions_[index].live) continue;
        end_period(regions_[index], event.ns);
        regions_[index].live = false;
      }
      by_heap_.erase(event.id);
      return;
    case RegionEvent::begin: {
      // The same address again without an end: what was there is gone.
      const auto before = by_base_.find(event.base);
      if (before != by_base_.end() && regions_[before->second].live) {
        end_period(regions_[before->second], event.ns);
        regions_[before->second].live = false;
      }
      const std::string& heap = heaps_[event.heap_id];  // empty when it was never named
      regions_.push_back({event.base, event.bytes, event.ns, "", tensor_role("", heap), {}, true});
      by_id_[event.id] = by_base_[event.base] = regions_.size() - 1;
      by_heap_[event.heap_id].push_back(regions_.size() - 1);
      return;
    }
    case RegionEvent::resize:
      if (Region* region = find_live(event)) {
        if (region->bytes == event.bytes) return;
        end_period(*region, event.ns);
        region->from_ns = event.ns;
        region->bytes = event.bytes;
      }
      return;
    case RegionEvent::end:
      if (Region* region = find_live(event)) {
        end_period(*region, event.ns);
        region->live = false;
      }
      return;
    case RegionEvent::name:
      if (Region* region = find_live(event)) {
        region->name = event.text;
        const TensorRole own = tensor_role(event.text, "");
        if (own != TensorRole::unknown) region->role = own;
      }
      return;
  }
}

// In one sweep over time: an address belongs to many allocations one after the other.
std::vector<const Tensors::Mapped*> touched_allocations(std::span<const Touch> by_time,
                                                        const std::vector<Tensors::Mapped>& mapped,
                                                        std::vector<size_t>& given_up) {
  constexpr int kMostTried = 64;  // overlapping ones
  std::vector<const Tensors::Mapped*> touched, begins, ends;
  if (by_time.empty()) return touched;
  for (const Tensors::Mapped& region : mapped) {
    if (region.is_allocation) begins.push_back(&region);
  }
  ends = begins;
  std::ranges::stable_sort(begins, {}, &Tensors::Mapped::from_ns);
  std::ranges::stable_sort(ends, {}, &Tensors::Mapped::to_ns);
  std::set<std::pair<uint64_t, const Tensors::Mapped*>> live;  // by base
  auto begin = begins.begin(), end = ends.begin();
  for (const Touch& touch : by_time) {
    for (; begin != begins.end() && (*begin)->from_ns <= touch.ns; ++begin) {
      live.emplace((*begin)->base, *begin);
    }
    for (; end != ends.end() && (*end)->to_ns <= touch.ns; ++end) {
      live.erase({(*end)->base, *end});
    }
    auto at = live.upper_bound({touch.begin, mapped.data() + mapped.size()});
    const Tensors::Mapped* found = nullptr;
    for (int i = 0; found == nullptr && at != live.begin(); ++i) {
      if (i == kMostTried) {
        given_up.push_back(touched.size());
        break;
      }
      const Tensors::Mapped* region = (--at)->second;
      if (touch.begin - region->base < region->bytes) found = region;
    }
    touched.push_back(found);
  }
  return touched;
}

void Tensors::add_rows(TraceDb& db, Names& names, ProcessId process,
                       std::span<const Touch> touches) {
  // Memory that nobody named cannot be found again in another run.
  std::erase_if(regions_, [](const Region& region) { return region.name.empty(); });
  std::vector<size_t> region_of;  // by place in mapped_
  for (size_t i = 0; i < regions_.size(); ++i) {
    const Region& region = regions_[i];
    const bool is_allocation = region.name.starts_with(hooks::kAllocationPrefix);
    for (const Period& period : region.periods) {
      mapped_.push_back({region.base,
                         period.bytes,
                         period.from_ns,
                         period.to_ns,
                         {},
                         region.role,
                         is_allocation});
      region_of.push_back(i);
    }
  }
  std::vector<size_t> given_up;
  touched_ = touched_allocations(touches, mapped_, given_up);
  for (const size_t i : given_up) {
    ++unmatched_;
    unmatched_uncounted_ += touches[i].counted ? 0 : 1;
  }
  struct Counts {
    int64_t reads = 0, writes = 0;
    // It was filled once, perhaps while it was followed already.
    bool only_read() const { return reads > 0 && writes * 10 <= reads; }
  };
  std::vector<Counts> counts(regions_.size());
  for (size_t i = 0; i < touched_.size(); ++i) {
    if (touched_[i] == nullptr) continue;
    Counts& own = counts[region_of[static_cast<size_t>(touched_[i] - mapped_.data())]];
    ++(touches[i].write ? own.writes : own.reads);
  }
  size_t place = 0;
  for (size_t i = 0; i < regions_.size(); ++i) {
    Region& region = regions_[i];
    if (counts[i].only_read()) region.role = TensorRole::weight;
    const StringId name{names.id(region.name)};
    for (Period& period : region.periods) {
      Mapped& mapped = mapped_[place++];
      mapped.role = region.role;
      TensorRow row{.process = process,
                    .name = name,
                    .role = region.role,
                    .base = static_cast<int64_t>(region.base),
                    .bytes = static_cast<int64_t>(std::min<uint64_t>(period.bytes, INT64_MAX)),
                    .source = mapped.is_allocation ? "allocation" : "nvtx_mem",
                    .valid_from_ns = period.from_ns};
      if (period.to_ns != kForever) row.valid_to_ns = period.to_ns;
      period.row = mapped.row = db.add(row);
    }
    tensors_.push_back({region.role, std::move(region.periods), -1});
    tensor_names_.push_back(region.name);
  }
  regions_.clear();
}

void Tensors::assign_to_modules(const TraceDb& db, const std::vector<bool>& is_range) {
  // Every part of a tensor's name that may be a module; 0: no range has that name.
  std::unordered_map<std::string, uint32_t> modules;
  const auto shorten = [](std::string& name) {
    const size_t dot = name.rfind('.');
    if (dot == std::string::npos) return false;
    name.resize(dot);
    return true;
  };
  for (const std::string& name : tensor_names_) {
    std::string prefix = valid_utf8(name);
    while (modules.try_emplace(prefix, 0).second && shorten(prefix)) {
    }
  }
  Query rows = db.query("SELECT id, value FROM string");
  while (!modules.empty() && rows.next()) {
    const auto id = static_cast<uint32_t>(rows.integer(0));
    if (id >= is_range.size() || !is_range[id]) continue;
    const auto module = modules.find(std::string(rows.text(1)));
    if (module != modules.end()) module->second = id;
  }
  for (uint32_t index = 0; index < tensors_.size(); ++index) {
    std::string prefix = valid_utf8(tensor_names_[index]);
    uint32_t range = 0;
    while ((range = modules.at(prefix)) == 0 && shorten(prefix)) {
    }
    if (range != 0) modules_[range].push_back(index);
  }
}

const std::vector<uint32_t>* Tensors::of_module(uint32_t range_name) const {
  const auto found = modules_.find(range_name);
  return found == modules_.end() ? nullptr : &found->second;
}

const Tensors::Period* Tensors::Tensor::at(int64_t ns) const {
  const auto after = std::ranges::upper_bound(periods, ns, {}, &Period::from_ns);
  if (after == periods.begin()) return nullptr;
  const Period& period = *(after - 1);
  return ns < period.to_ns ? &period : nullptr;
}

}  // namespace preserve
