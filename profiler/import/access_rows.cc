// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/access_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "common/text.h"
#include "profiler/gpu/activity_rows.h"
#include "profiler/gpu/operand_bytes.h"

namespace preserve::import {
namespace {

constexpr double kShapesConfidence = 0.8;
constexpr double kShapesInModuleConfidence = 0.9;
constexpr double kInferredConfidence = 0.3;
// Time of a kernel that moves nothing, and what streaming kernels reach of the nominal bandwidth:
// common figures for current accelerators, good to a factor of two, hence the confidence.
constexpr int64_t kLaunchFloorNs = 2'000;
constexpr double kReachedBandwidth = 0.8;
constexpr int64_t kLeastInferredBytes = 64 << 10;
constexpr size_t kInferredLimit = 2'000'000;  // operators whose durations are held for the median
constexpr size_t kMeaningLimit = 10'000;

struct Step {
  int64_t start_ns, end_ns;
  bool prefill;
};

// "void ns::gemm_kernel<float, 3>(int)" -> "ns::gemm_kernel".
std::string kernel_stem(std::string_view name) {
  if (name.starts_with("void ")) name.remove_prefix(5);
  const size_t end = name.find_first_of("<(", 1);
  return printable(name.substr(0, end), 80);
}

class AccessWriter {
 public:
  AccessWriter(TraceDb& db, ImportedProcess& process, const GraphCaptures& captures,
               AccessSummary& summary)
      : db_(db),
        process_(process),
        captures_(captures),
        comparisons_left_(captures.limit()),
        summary_(summary) {}

  void run();

 private:
  // Same operator in each step: base name and how many of that base came before it in the step.
  struct Key {
    uint32_t base;
    uint32_t ordinal;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Inferred {
    Key key;
    int64_t op, dur_ns;
    gpu::KernelClass kernel_class;
  };

  // What shapes mean for one operator and kernel.
  struct Meaning {
    std::vector<gpu::OperandBytes> operands{};
    std::optional<gpu::ProductShape> product{};
  };

  void take_from_capture(OperandUse& use);
  const Meaning& meaning_of(const OperandUse& use);
  const GraphCaptures::Join& join_of(const OperandUse& use);
  void load_steps();
  bool enter_step(int64_t start_ns);
  const std::string& text(uint32_t name);
  uint32_t base_of(const OperandUse& use);
  bool write_shapes(const OperandUse& use, Key key, bool in_step);
  void write_inferred();
  TensorId tensor(Key key, const std::string& word, TensorRole role, int64_t bytes,
                  std::string_view source, bool in_step);

  TraceDb& db_;
  ImportedProcess& process_;
  const GraphCaptures& captures_;
  int64_t comparisons_left_;
  std::map<uint32_t, std::vector<GraphCaptures::Fitting>> fitting_;    // by replayed graph
  std::map<std::pair<uint32_t, int64_t>, GraphCaptures::Join> joins_;  // by that, tokens
  std::vector<Step> steps_;
  size_t step_ = 0;
  std::vector<std::string> bases_;
  std::map<std::tuple<uint32_t, uint32_t, uint32_t>, uint32_t> base_index_;  // scope, op, kernel
  std::unordered_map<uint32_t, uint32_t> seen_in_step_;
  std::unordered_map<uint32_t, std::string> texts_;
  // By operator, kernel and operands: steps repeat the same ones.
  std::map<std::tuple<uint32_t, uint32_t, uint32_t>, Meaning> meanings_;
  std::map<std::tuple<Key, std::string, int64_t, bool>, TensorId> tensors_;
  std::vector<Inferred> inferred_;
  AccessSummary& summary_;
};

void AccessWriter::load_steps() {
  Query rows =
      db_.query("SELECT start_ns, end_ns, phase FROM step WHERE process_id = ? ORDER BY start_ns",
                {process_.id.value});
  while (rows.next()) {
    steps_.push_back({rows.integer(0), rows.integer(1), rows.text(2) == "prefill"});
  }
}

// Operators come in order of time: moves on to the step of `start_ns`. false outside of any step.
bool AccessWriter::enter_step(int64_t start_ns) {
  const size_t before = step_;
  while (step_ < steps_.size() && steps_[step_].end_ns <= start_ns) ++step_;
  if (step_ != before) seen_in_step_.clear();
  return step_ < steps_.size() && steps_[step_].start_ns <= start_ns;
}

const std::string& AccessWriter::text(uint32_t name) {
  const auto [entry, fresh] = texts_.try_emplace(name);
  if (fresh) entry->second = gpu::text_of(db_, name);
  return entry->second;
}

uint32_t AccessWriter::base_of(const OperandUse& use) {
  const uint32_t kernel = use.op_name != 0 ? 0 : use.name;
  const auto [entry, fresh] = base_index_.try_emplace({use.scope, use.op_name, kernel},
                                                      static_cast<uint32_t>(bases_.size()));
  if (fresh) {
    const std::string& scope = process_.source->scopes[use.scope];
    const std::string op = use.op_name != 0 ? text(use.op_name) : kernel_stem(text(use.name));
    bases_.push_back(scope.empty() ? op : scope + "/" + op);
  }
  return entry->second;
}

TensorId AccessWriter::tensor(Key key, const std::string& word, TensorRole role, int64_t bytes,
                              std::string_view source, bool in_step) {
  TensorId& id = tensors_[{key, word, bytes, in_step}];
  if (!id) {
    // Outside of steps nothing says which of many equal operators this is: no plan may use it.
    const std::string name =
        in_step ? fmt::format("{}{}.{}", bases_[key.base],
                              key.ordinal == 0 ? "" : fmt::format("#{}", key.ordinal), word)
                : fmt::format("outside steps/{}.{}", bases_[key.base], word);
    id = db_.add(TensorRow{.process = process_.id,
                           .name = db_.intern(name),
                           .role = in_step ? role : TensorRole::unknown,
                           .bytes = bytes,
                           .source = source});
  }
  return id;
}

const AccessWriter::Meaning& AccessWriter::meaning_of(const OperandUse& use) {
  if (meanings_.size() > kMeaningLimit) meanings_.clear();
  const auto [entry, fresh] = meanings_.try_emplace({use.op_name, use.name, use.operands});
  if (fresh) {
    const std::string &op = text(use.op_name), &kernel = text(use.name);
    const auto& operands = process_.source->operands.at(use.operands);
    entry->second = {gpu::operand_bytes(op, kernel, use.kernel_class, operands),
                     gpu::product_shape(op, kernel, use.kernel_class, operands)};
  }
  return entry->second;
}

bool AccessWriter::write_shapes(const OperandUse& use, Key key, bool in_step) {
  if (use.operands == 0) return false;
  const Meaning& meaning = meaning_of(use);
  if (meaning.product) {
    db_.add(GemmRow{.op = {use.op},
                    .m = meaning.product->m,
                    .n = meaning.product->n,
                    .k = meaning.product->k,
                    .dtype = meaning.product->dtype,
                    .source = "shapes"});
  }
  int64_t operand = 0;
  for (const gpu::OperandBytes& each : meaning.operands) {
    gpu::OperandBytes bytes = each;
    double confidence = use.scope != 0 ? kShapesInModuleConfidence : kShapesConfidence;
    std::string_view source = "shapes";
    // A KV operand is often the whole pool of the engine; no kernel reads faster than the memory.
    if (bytes.role == TensorRole::kv && process_.bandwidth_bytes_per_s) {
      const auto most = static_cast<int64_t>(static_cast<double>(use.dur_ns) * 1e-9 *
                                             static_cast<double>(*process_.bandwidth_bytes_per_s));
      if (bytes.access_bytes > most) {
        bytes.access_bytes = most;
        source = "inferred";
        confidence = kInferredConfidence;
      }
    }
    db_.add(AccessRow{
        .op = {use.op},
        .operand = operand++,
        .tensor = tensor(key, bytes.word, bytes.role, bytes.tensor_bytes, "shapes", in_step),
        .bytes = bytes.access_bytes,
        .mode = bytes.mode,
        .source = source,
        .confidence = confidence});
  }
  return operand != 0;
}

const GraphCaptures::Join& AccessWriter::join_of(const OperandUse& use) {
  const auto [entry, fresh] = joins_.try_emplace({use.replay, use.tokens});
  if (fresh) {
    using Why = GraphCaptures::Why;
    const ReplayedGraph& replay = process_.source->replayed[use.replay - 1];
    const auto [fitting, unseen] = fitting_.try_emplace(use.replay);
    if (unseen) fitting->second = captures_.fitting(replay, process_.rank, comparisons_left_);
    entry->second = GraphCaptures::join(replay, fitting->second, use.tokens, comparisons_left_);
    const Why why = entry->second.why;
    ++(why == Why::joined      ? summary_.joined
       : why == Why::ambiguous ? summary_.ambiguous
       : why == Why::too_many  ? summary_.too_many
                               : summary_.apart);
  }
  return entry->second;
}

// What the framework said of this kernel when its graph was captured.
void AccessWriter::take_from_capture(OperandUse& use) {
  const GraphCaptures::Join& join = join_of(use);
  if (join.why != GraphCaptures::Why::joined) return;
  const CapturedCall* call =
      join.calls[process_.source->replayed[use.replay - 1].node_of[use.in_replay]];
  if (call == nullptr) return;
  if (use.kernel_class == gpu::KernelClass::collective) {
    gpu::CollectiveFacts facts = join.from->communications[call->communication];
    if (call->communication == 0) {
      const auto message = gpu::message_of(join.from->operands.at(call->operands));
      if (!message) return;
      facts = *message;
      facts.function = gpu::collective_function(text(call->op_name));
    }
    gpu::complete_collective(db_, {use.op}, facts);
    return;
  }
  const auto number = [](auto& known, const CapturedGraphs* from, uint32_t of, auto add) {
    const auto [entry, fresh] = known.try_emplace({from, of}, 0);
    if (fresh) entry->second = add();
    return entry->second;
  };
  use.op_name = call->op_name;
  use.operands = number(process_.source->lists, join.from, call->operands, [&] {
    return process_.source->operands.add(join.from->operands.at(call->operands));
  });
  if (!join.in_module) return;
  use.scope = number(process_.source->paths, join.from, call->scope, [&] {
    process_.source->scopes.push_back(join.from->scopes[call->scope]);
    return static_cast<uint32_t>(process_.source->scopes.size() - 1);
  });
}

// Equal size in each step: the bytes of an operator come from the median of its durations.
void AccessWriter::write_inferred() {
  const double rate_bytes_per_ns =
      kReachedBandwidth * 1e-9 * static_cast<double>(process_.bandwidth_bytes_per_s.value_or(0));
  std::ranges::stable_sort(inferred_, {}, &Inferred::key);
  for (size_t first = 0; first < inferred_.size();) {
    size_t last = first;
    std::vector<int64_t> durations;
    for (; last < inferred_.size() && inferred_[last].key == inferred_[first].key; ++last) {
      durations.push_back(inferred_[last].dur_ns);
    }
    const auto middle = durations.begin() + static_cast<std::ptrdiff_t>(durations.size() / 2);
    std::nth_element(durations.begin(), middle, durations.end());
    const auto bytes = static_cast<int64_t>(
        static_cast<double>(std::max<int64_t>(0, *middle - kLaunchFloorNs)) * rate_bytes_per_ns);
    if (bytes < kLeastInferredBytes) {
      summary_.unknown += static_cast<int64_t>(last - first);
      first = last;
      continue;
    }
    const gpu::KernelClass kernel_class = inferred_[first].kernel_class;
    const TensorRole role = kernel_class == gpu::KernelClass::matmul      ? TensorRole::weight
                            : kernel_class == gpu::KernelClass::attention ? TensorRole::kv
                                                                          : TensorRole::unknown;
    const char* word = role == TensorRole::weight ? "weight"
                       : role == TensorRole::kv   ? "kv"
                                                  : "experts";
    const TensorId id = tensor(inferred_[first].key, word, role, bytes, "inferred", true);
    for (; first < last; ++first) {
      db_.add(AccessRow{.op = {inferred_[first].op},
                        .operand = 0,
                        .tensor = id,
                        .bytes = bytes,
                        .source = "inferred",
                        .confidence = kInferredConfidence});
      ++summary_.inferred;
    }
  }
}

void AccessWriter::run() {
  load_steps();
  process_.uses.sort();
  OperandUse use;
  while (process_.uses.next(use)) {
    const bool in_step = enter_step(use.start_ns + process_.shift_ns);
    if (use.replay != 0 && use.operands == 0 && !captures_.empty()) take_from_capture(use);
    if (use.kernel_class == gpu::KernelClass::collective) continue;
    const bool streams = use.kernel_class == gpu::KernelClass::matmul ||
                         use.kernel_class == gpu::KernelClass::attention ||
                         use.kernel_class == gpu::KernelClass::experts;
    if (use.operands == 0 && !streams) {
      ++summary_.unknown;
      continue;
    }
    const uint32_t base = base_of(use);
    const Key key{base, in_step ? seen_in_step_[base]++ : 0};
    if (write_shapes(use, key, in_step)) {
      ++summary_.from_shapes;
    } else if (streams && in_step && !steps_[step_].prefill && process_.bandwidth_bytes_per_s &&
               inferred_.size() < kInferredLimit) {
      inferred_.push_back({key, use.op, use.dur_ns, use.kernel_class});
    } else {
      ++summary_.unknown;
    }
  }
  write_inferred();
}

}  // namespace

void add_access_rows(TraceDb& db, ImportedProcess& process, const GraphCaptures& captures,
                     AccessSummary& summary) {
  AccessWriter(db, process, captures, summary).run();
}

}  // namespace preserve::import
