// SPDX-License-Identifier: Apache-2.0
// Programs that do anything with their graphs, in any order, on a driver that may begin to fail at
// any call of ours: what they compute is their own, and until then nothing is fetched from freed
// memory.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "tests/apply/library/cuda/process.h"

namespace preserve {
namespace {

using namespace apply;
using test::DeviceBlock;
using test::Program;
using test::Step;

constexpr uint64_t kNamedBytes = 1024;

class RandomProcess {
 public:
  RandomProcess() : plan_(step_, test::PlanShape{}) {
    // What is fetched beside every second collective has a name.
    const uint32_t tensor = plan_.content.add_tensor("cache");
    for (size_t i = 0; i < plan_.content.slices.size(); i += 2) {
      plan_.content.slices[i].argument = kByName;
      plan_.content.slices[i].tensor = tensor;
    }
    plan_.content.header.mode = *rc::gen::element(Mode::guard, Mode::compare, Mode::always);
    plan_.encode();
    RC_ASSERT(names_.start(plan_.view().tensors(), plan_.view().text()));
    session_ = std::make_unique<GraphSession>(
        GraphSession::Surroundings{driver_, plan_.view(), names_, &header_, 0, &window_, samples_,
                                   "image", [] { return int64_t{7}; }});
    emulated::driver_calls = 0;
    emulated::failing_on = *rc::gen::arbitrary<bool>();
    failing_ = *rc::gen::weightedOneOf<int>(
        {{2, rc::gen::just(0)}, {1, rc::gen::inRange(1, 120)}, {1, rc::gen::inRange(1, 600)}});
    ours([&] { session_->context_ready(); });
    for (Step::Node& node : other_step_.nodes) node.kernel += "_long";
    expected_ = Program(step_, 512).result();
    other_expected_ = Program(other_step_, 512).result();
    emulated::requests().clear();
  }
  ~RandomProcess() {
    emulated::failing_on = false;
    for (Slot& slot : slots_) {
      if (slot.executable != nullptr) destroy(slot);
      give_up_template(slot);
    }
    emulated::drain();
  }
  RandomProcess(const RandomProcess&) = delete;
  RandomProcess& operator=(const RandomProcess&) = delete;

  void act() {
    Slot& slot = slots_[*rc::gen::inRange<size_t>(0, slots_.size())];
    switch (*rc::gen::inRange(0, 11)) {
      case 0:
        return give_up_template(slot);
      case 1:
        return update(slot);
      case 2:
        return destroy(slot);
      case 3:
        return name_memory();
      case 4:
        return free_memory();
      case 5:
        if (*rc::gen::inRange(0, 4) == 0) end_context();
        return;
      case 6:
        return destroy_node(slot);
      case 7:
        if (slot.has_template) ours([&] { session_->copying(slot.program->graph()); });
        return;
      default:
        if (slot.executable == nullptr) return instantiate(slot);
        for (int i = *rc::gen::inRange(1, 14); i > 0; --i) launch(slot);
    }
  }

 private:
  struct Slot {
    std::unique_ptr<Program> program;  // whose memory the executable uses
    bool has_template = false, is_other = false;
    std::vector<std::unique_ptr<Program>> before{};
    CUgraphExec executable = nullptr;
  };

  // The calls that a session makes may fail; the program's own do not.
  template <typename Call>
  void ours(Call call) {
    emulated::failing_call = failing_;
    call();
    emulated::failing_call = 0;
  }
  template <typename Call>
  static void own(Call call) {
    const int counted = emulated::driver_calls;
    call();
    emulated::driver_calls = counted;
  }

  void capture(Slot& slot) {
    if (slot.program != nullptr) slot.before.push_back(std::move(slot.program));
    own([&] { slot.program = std::make_unique<Program>(step_, 512); });
    slot.has_template = true;
    slot.is_other = false;
  }
  void instantiate(Slot& slot) {
    if (!slot.has_template) capture(slot);
    GraphSession::Instantiation begun{};
    ours([&] { begun = session_->instantiating(slot.program->graph(), 0); });
    own([&] {
      RC_ASSERT(cuGraphInstantiateWithFlags(&slot.executable, slot.program->graph(), begun.flags) ==
                CUDA_SUCCESS);
    });
    ours([&] { session_->instantiated(slot.program->graph(), slot.executable, begun, true); });
  }
  void update(Slot& slot) {
    if (slot.executable == nullptr) return;
    std::unique_ptr<Program> other;
    slot.is_other = *rc::gen::inRange(0, 5) == 0;  // of the same shape
    own([&] { other = std::make_unique<Program>(slot.is_other ? other_step_ : step_, 512); });
    ours([&] { session_->updating(slot.executable, other->graph()); });
    CUgraphExecUpdateResultInfo info{};
    CUresult result = CUDA_SUCCESS;
    own([&] { result = cuGraphExecUpdate(slot.executable, other->graph(), &info); });
    ours([&] { session_->updated(slot.executable, result == CUDA_SUCCESS); });
    // Refused only where no call succeeds any more: programs instantiate afresh then.
    RC_ASSERT(result == CUDA_SUCCESS || (emulated::failing_on && has_failed()));
    give_up_template(slot);
    if (slot.program != nullptr) slot.before.push_back(std::move(slot.program));
    slot.program = std::move(other);
    slot.has_template = true;
    if (result != CUDA_SUCCESS) {
      destroy(slot);
      instantiate(slot);
    }
  }
  void destroy(Slot& slot) {
    if (slot.executable == nullptr) return;
    emulated::drain();
    ours([&] { session_->destroyed(slot.executable); });
    own([&] { cuGraphExecDestroy(slot.executable); });
    slot.executable = nullptr;
  }
  // The last of its graph, if that is one of ours: no program wants to wait for its own work less.
  void destroy_node(Slot& slot) {
    if (!slot.has_template || *rc::gen::inRange(0, 4) != 0) return;
    const auto& nodes = slot.program->graph()->nodes;
    if (nodes.size() == step_.nodes.size()) return;
    const CUgraphNode node = nodes.back().get();
    ours([&] { session_->destroyed(node); });
    own([&] { RC_ASSERT(cuGraphDestroyNode(node) == CUDA_SUCCESS); });
  }
  // Its memory stays: the executable uses it.
  void give_up_template(Slot& slot) {
    if (!slot.has_template) return;
    slot.has_template = false;
    ours([&] { session_->destroyed(slot.program->graph()); });
    slot.program->give_up_graph();
  }
  void name_memory() {
    if (named_ == nullptr) named_ = std::make_unique<DeviceBlock>(kNamedBytes);
    names_.add_region(1, 9, named_->address(), kNamedBytes);
    names_.name_region(1, 0, 0, "cache");
  }
  // Without a word to NVTX.
  void free_memory() {
    if (named_ == nullptr) return;
    ours([&] { session_->freed(named_->address(), 1); });
    emulated::drain();
    look_at_requests();  // of launches before
    named_.reset();
  }
  void end_context() {
    for (Slot& slot : slots_) {
      if (slot.executable != nullptr) emulated::drain();
    }
    look_at_requests();
    ours([&] { session_->destroyed(emulated::context_of(0)); });
    for (Slot& slot : slots_) {
      if (slot.executable != nullptr) own([&] { cuGraphExecDestroy(slot.executable); });
      slot.executable = nullptr;
      give_up_template(slot);  // its kernels are gone too
    }
    ours([&] { session_->context_ready(); });
  }
  void launch(Slot& slot) {
    slot.program->left();
    bool measured = false;
    ours([&] { measured = session_->launching(slot.executable, stream_); });
    own([&] { RC_ASSERT(cuGraphLaunch(slot.executable, stream_) == CUDA_SUCCESS); });
    if (measured) ours([&] { session_->launched(slot.executable, stream_, true); });
    emulated::drain();
    RC_ASSERT(slot.program->left() == (slot.is_other ? other_expected_ : expected_));
    look_at_requests();
  }
  bool has_failed() const { return failing_ > 0 && emulated::driver_calls >= failing_; }
  void look_at_requests() {
    // Once a call has failed, the one that switches fetches off may have.
    const bool failed = has_failed();
    for (const emulated::Request& request : emulated::requests()) {
      if (failed) break;
      const emulated::Allocation live = emulated::allocation_around(request.address);
      RC_ASSERT(live.bytes > 0u);
      RC_ASSERT(request.address + request.bytes <= live.base + live.bytes);
    }
    emulated::requests().clear();
  }

  const Step step_ = test::decode_step(2);
  Step other_step_ = step_;
  test::Plan plan_;
  const Driver driver_ = test::emulated_driver();
  Tensors names_;
  OutcomeHeader header_{};
  WindowOutcome window_{};
  std::vector<StepSample> samples_ = std::vector<StepSample>(256);
  std::unique_ptr<GraphSession> session_;
  const test::Stream stream_;
  int failing_ = 0;
  std::vector<uint64_t> expected_, other_expected_;
  std::unique_ptr<DeviceBlock> named_;
  std::array<Slot, 3> slots_{};
};

RC_GTEST_PROP(RandomGraphProgram, ComputesWhatItComputesWithoutUs, ()) {
  RandomProcess process;
  for (int actions = *rc::gen::inRange(1, 40); actions > 0; --actions) process.act();
}

}  // namespace
}  // namespace preserve
