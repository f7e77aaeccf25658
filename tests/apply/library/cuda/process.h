// SPDX-License-Identifier: Apache-2.0
// A process with one graph under a session, on the emulated driver: how CUPTI's callbacks would
// call it.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "apply/library/cuda/session.h"
#include "tests/apply/library/cuda/program.h"
#include "tests/replay/cuda/emulated_cuda.h"
#include "tests/replay/cuda/emulated_gpu.h"

namespace preserve::test {

using apply::GraphSession;
using apply::Mode;

struct Stream {
  Stream() { cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator CUstream() const { return handle; }
  CUstream operator->() const { return handle; }
  CUstream handle = nullptr;
};

// The program's calls about an executable graph, as a session is told of them.
inline CUresult update(GraphSession& session, CUgraphExec executable, CUgraph graph) {
  session.updating(executable, graph);
  CUgraphExecUpdateResultInfo info{};
  const CUresult result = cuGraphExecUpdate(executable, graph, &info);
  session.updated(executable, result == CUDA_SUCCESS);
  return result;
}
inline void launch(GraphSession& session, CUgraphExec executable, CUstream stream) {
  const bool measured = session.launching(executable, stream);
  cuGraphLaunch(executable, stream);
  if (measured) session.launched(executable, stream, true);
}

// An executable graph for as long as it lives.
struct Instantiated {
  Instantiated(GraphSession& of, CUgraph graph) : session(of), begun(of.instantiating(graph, 0)) {
    ok(cuGraphInstantiateWithFlags(&executable, graph, begun.flags));
    session.instantiated(graph, executable, begun, true);
  }
  ~Instantiated() {
    session.destroyed(executable);
    cuGraphExecDestroy(executable);
  }
  Instantiated(const Instantiated&) = delete;
  Instantiated& operator=(const Instantiated&) = delete;
  bool update(CUgraph graph) { return test::update(session, executable, graph) == CUDA_SUCCESS; }
  void launch(CUstream stream) {
    test::launch(session, executable, stream);
    emulated::drain();
  }
  GraphSession& session;
  const GraphSession::Instantiation begun;
  CUgraphExec executable = nullptr;
};

class Process {
 public:
  explicit Process(const Step& step, Mode mode = Mode::guard,
                   const apply::Driver& driver = emulated_driver())
      : driver_(driver), step_(step), plan_(step, {.slices = 1}) {
    plan_.content.header.mode = mode;
    plan_.content.header.budget_bytes = 40 << 20;
    plan_.encode();
    session = std::make_unique<GraphSession>(
        GraphSession::Surroundings{driver_, plan_.view(), no_names(), &header, 3, &window, samples,
                                   "image", [] { return int64_t{7}; }});
    emulated::driver_calls = 0;
    session->context_ready();
  }
  ~Process() {
    emulated::failing_call = 0;
    emulated::failing_on = false;
    emulated::current_device = emulated::memory_device = 0;
    emulated::cache_bytes = 50 << 20;
    emulated::free_bytes = size_t{1} << 30;
    emulated::drain();
    if (executable != nullptr) destroy();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void capture(size_t weight_bytes = 512) {
    give_up_template();
    program = std::make_unique<Program>(step_, weight_bytes);
  }
  void give_up_template() {
    if (program != nullptr) session->destroyed(program->graph());  // a new one may get its address
    program.reset();
  }
  CUresult instantiate() {
    const GraphSession::Instantiation begun = session->instantiating(program->graph(), 0);
    const CUresult result = cuGraphInstantiateWithFlags(&executable, program->graph(), begun.flags);
    session->instantiated(program->graph(), executable, begun, result == CUDA_SUCCESS);
    return result;
  }
  CUresult update() { return update(program->graph()); }
  CUresult update(CUgraph graph) { return test::update(*session, executable, graph); }
  void destroy() {
    session->destroyed(executable);
    cuGraphExecDestroy(executable);
    executable = nullptr;
  }
  void launch(bool drained = true) {
    emulated::requests().clear();
    const bool measured = session->launching(executable, stream);
    launched_without = disabled();
    cuGraphLaunch(executable, stream);
    if (measured) session->launched(executable, stream, true);
    if (!drained) return;
    emulated::drain();
    fetched = !emulated::requests().empty();
  }
  size_t disabled() const {
    return static_cast<size_t>(std::count_if(executable->nodes.begin(), executable->nodes.end(),
                                             [](const auto& node) { return !node.enabled; }));
  }
  bool all_off() {  // and nothing is fetched any more
    for (int i = 0; i < 8; ++i) {
      launch();
      if (fetched) return false;
    }
    return session->is_off();
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) launch();
  }
  std::vector<uint64_t> result() { return program->result_of(executable); }

  apply::OutcomeHeader header{};
  apply::WindowOutcome window{};
  std::vector<apply::StepSample> samples = std::vector<apply::StepSample>(4096);
  std::unique_ptr<GraphSession> session;
  std::unique_ptr<Program> program;
  CUgraphExec executable = nullptr;
  const Stream stream;
  bool fetched = false;
  size_t launched_without = 0;  // nodes, which were disabled

 private:
  const apply::Driver driver_;
  Step step_;
  Plan plan_;
};

// One whose graph is captured.
struct Captured : Process {
  template <typename... Of>
  explicit Captured(const Step& step, const Of&... of) : Process(step, of...) {
    capture();
  }
};
// And instantiated.
struct Running : Captured {
  template <typename... Of>
  explicit Running(const Step& step, const Of&... of) : Captured(step, of...) {
    ok(instantiate());
  }
};

}  // namespace preserve::test
