// SPDX-License-Identifier: Apache-2.0
// A program, an MPI library and a clock that do what a test says: collectives that take a given
// time and turn the progress engine meanwhile, without MPI.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apply/library/session.h"
#include "apply/plan_content.h"

namespace preserve::apply {

inline int64_t scripted_now_ns = 0;  // moves only as the script says, and 10 ns with each look
inline int64_t scripted_clock() {
  return scripted_now_ns += 10;
}
inline int scripted_attached = 0;
inline Off scripted_refusal = Off::none;
inline Off scripted_attach() {
  if (scripted_refusal == Off::none) ++scripted_attached;
  return scripted_refusal;
}
inline void scripted_detach() {
  --scripted_attached;
}

class Pages {  // memory of its own mapping
 public:
  explicit Pages(size_t bytes)
      : bytes_(bytes),
        memory_(
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Pages() { ::munmap(memory_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  uint64_t base() const { return reinterpret_cast<uintptr_t>(memory_); }
  void* memory() const { return memory_; }

 private:
  const size_t bytes_;
  void* const memory_;
};

struct PlanWish {
  Via via = PlanContent().header.via;
  Mode mode = PlanContent().header.mode;
  int64_t link_latency_ns = 0;
};
// A step of three allreduces of 100, 100 and 8 bytes; the first two carry 4 KiB of tensor "a" and
// of "b".
inline PlanContent scripted_plan(const PlanWish& wish = {}) {
  PlanContent plan;
  plan.header.via = wish.via;
  plan.header.mode = wish.mode;
  plan.header.link_latency_ns = wish.link_latency_ns;
  plan.header.ranks = 2;
  plan.header.chunk_bytes = 1024;
  plan.header.folder = plan.add_text("/tmp");
  for (const int64_t bytes : {100, 100, 8}) {
    PlanCollective collective{};
    collective.bytes = bytes;
    collective.ranks = 2;
    collective.after_messages = kEither;
    collective.type_bytes = 9;
    std::memcpy(collective.type, "MPI_FLOAT", 9);
    plan.collectives.push_back(collective);
  }
  plan.windows = {{0, 0, 1, 0}, {1, 1, 1, 0}};
  plan.slices = {{0, 0, 0, 4096}, {1, 0, 0, 4096}};
  plan.tensors = {{TensorKind::region, 0, 4096, plan.add_text("a")},
                  {TensorKind::region, 0, 4096, plan.add_text("b")}};
  return plan;
}

class ScriptedRank {
 public:
  explicit ScriptedRank(const PlanContent& content = scripted_plan(), uint32_t ranks = 2,
                        Board* shared = nullptr)
      : board(shared != nullptr ? *shared : own_board),
        file_(content.encoded()),
        words_(file_.size() / 8 + 1),
        pages_(8192) {
    std::memcpy(words_.data(), file_.data(), file_.size());
    error_ = plan_.open(std::as_bytes(std::span(words_)).first(file_.size()));
    memory_.resize(Recogniser::memory_entries(plan_.collectives().size()));
    windows_.resize(plan_.windows().size());
    tensor_outcomes_.resize(plan_.tensors().size());
    samples_.resize(4096);
    header_.rank = 0;
    header_.ranks = ranks;
    scripted_now_ns = 1;
    scripted_attached = 0;
    scripted_refusal = Off::none;
    tensors.start(plan_);
    if (plan_.header().via == Via::spare) helper_.emplace(plan_, tensors, board, scripted_clock);
  }
  // Names the tensors, as a program does while it loads its weights.
  void load() {
    for (const std::string_view name : {"a", "b"}) {
      const uint64_t id = name == "a" ? 1 : 2;
      tensors.add_region(id, 7, pages_.base() + (id - 1) * 4096, 4096);
      tensors.name_region(id, 0, 0, name);
    }
  }
  Session& session() {
    if (!session_) {
      session_.emplace(Session::Surroundings{plan_,
                                             tensors,
                                             {&header_, windows_, tensor_outcomes_, samples_},
                                             board,
                                             scripted_clock,
                                             {scripted_attach, scripted_detach},
                                             helper_ ? &*helper_ : nullptr,
                                             memory_});
    }
    return *session_;
  }
  const char* error() const { return error_; }
  const Pages& pages() const { return pages_; }
  const OutcomeHeader& seen() const { return header_; }
  const std::vector<StepSample>& samples() const { return samples_; }
  const std::vector<TensorOutcome>& tensor_outcomes() const { return tensor_outcomes_; }

  static Collective allreduce(int64_t bytes) { return {bytes, 2, 0, "MPI_FLOAT", false, 0}; }

  void compute(int64_t dur_ns) { scripted_now_ns += dur_ns; }
  // A blocking allreduce that turns the engine so often.
  void allreduce(int64_t bytes, int turns, uint32_t thread = 1) {
    Collective collective = allreduce(bytes);
    collective.communicator = communicator;
    const uint64_t way = session().began(collective, thread, true);
    ways += "-npc"[way];
    if (way == Session::probe) session().probed(probed);
    for (int i = 0; i < turns; ++i) Session::turn();
    session().ended(2);
  }
  // One step; where the plan has fetched, compute takes `gain` of its time less.
  void step(double gain = 0, int turns = 10) {
    const uint64_t before = header_.fetched_bytes;
    allreduce(100, turns);
    allreduce(100, turns);
    const bool fetched = header_.fetched_bytes > before;
    allreduce(8, turns);
    compute(static_cast<int64_t>(1e6 * (fetched ? 1 - gain : 1)));
    jitter_ = jitter_ * 6364136223846793005ULL + 1442695040888963407ULL;
    compute(static_cast<int64_t>(jitter_ >> 50));  // to 16 us: 1.6 %
  }
  void steps(int count, double gain = 0) {
    for (int i = 0; i < count; ++i) step(gain);
  }

  Tensors tensors;
  Board own_board;
  Board& board;
  uint64_t communicator = 7;
  std::string ways;          // of each allreduce: as it is, noted, probed, converted
  Session::Probed probed{};  // what a probe finds

 private:
  const std::string file_;
  std::vector<uint64_t> words_;
  Pages pages_;
  PlanView plan_;
  const char* error_ = nullptr;
  OutcomeHeader header_{};
  std::vector<WindowOutcome> windows_;
  std::vector<TensorOutcome> tensor_outcomes_;
  std::vector<StepSample> samples_;
  std::vector<uint32_t> memory_;
  std::optional<Helper> helper_;  // whose thread is not started
  std::optional<Session> session_;
  uint64_t jitter_ = 1;
};

// A step of one of several ranks, whose clock shows `now_ns`.
inline void step_of(ScriptedRank& rank, int64_t& now_ns, double gain) {
  scripted_now_ns = now_ns;
  rank.step(gain);
  now_ns = scripted_now_ns;
}

// One that has loaded its weights.
struct LoadedRank : ScriptedRank {
  template <typename... Of>
  explicit LoadedRank(const Of&... of) : ScriptedRank(of...) {
    load();
  }
};

}  // namespace preserve::apply
