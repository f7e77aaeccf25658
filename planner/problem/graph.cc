// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/graph.h"

#include <algorithm>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/filtered_graph.hpp>
#include <boost/property_map/property_map.hpp>
#include <functional>
#include <optional>
#include <queue>
#include <unordered_map>

namespace preserve {

namespace {

using Vertex = boost::graph_traits<OperatorGraph>::vertex_descriptor;

// Which of the operators that had ended before a given time ended last. Times must be asked
// ascending.
class LastEnded {
 public:
  explicit LastEnded(const FoldedStep& step) : step_(step) {}

  void started(Vertex v) { running_.emplace(step_.ops[v].start_ns + step_.ops[v].dur_ns, v); }
  std::optional<Vertex> before(double time_ns) {
    for (; !running_.empty() && running_.top().first <= time_ns; running_.pop()) {
      last_ = running_.top().second;
    }
    return last_;
  }

 private:
  using Ending = std::pair<double, Vertex>;

  const FoldedStep& step_;
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> running_;
  std::optional<Vertex> last_;
};

struct Collect : boost::default_bfs_visitor {
  explicit Collect(std::vector<int32_t>& out) : found(&out) {}
  template <typename AnyGraph>
  void discover_vertex(Vertex vertex, const AnyGraph&) {
    found->push_back(static_cast<int32_t>(vertex));
  }
  std::vector<int32_t>* found;
};

}  // namespace

OperatorGraph operator_graph(const FoldedStep& step) {
  const Vertex end_of_step = step.ops.size();
  OperatorGraph graph(end_of_step + 1);
  LastEnded last_ended(step);
  std::unordered_map<int32_t, Vertex> last_on_stream, writer;
  for (Vertex v = 0; v < end_of_step; ++v) {
    const StepOp& op = step.ops[v];
    std::vector<Vertex> sources;
    const auto add_source = [&](const auto& map, int32_t key) {
      if (const auto u = map.find(key); u != map.end()) sources.push_back(u->second);
    };
    add_source(last_on_stream, op.stream);
    if (const auto u = last_ended.before(op.start_ns)) sources.push_back(*u);
    for (const StepAccess& access : op.accesses) {
      if (access.mode == AccessMode::read) add_source(writer, access.tensor);
    }
    std::sort(sources.begin(), sources.end());
    sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
    if (sources.empty()) sources.push_back(end_of_step);
    for (const Vertex u : sources) boost::add_edge(u, v, graph);
    for (const StepAccess& access : op.accesses) {
      if (access.mode == AccessMode::write) writer[access.tensor] = v;
    }
    last_on_stream[op.stream] = v;
    last_ended.started(v);
  }
  for (Vertex v = 0; v < end_of_step; ++v) {
    if (boost::out_degree(v, graph) == 0) boost::add_edge(v, end_of_step, graph);
  }
  return graph;
}

std::vector<int32_t> operators_before_boundary(const OperatorGraph& graph, int32_t from,
                                               const std::vector<uint8_t>& is_boundary) {
  const Vertex end_of_step = is_boundary.size();
  const std::function<bool(Vertex)> inside = [&](Vertex v) {
    return v == end_of_step || is_boundary[v] == 0;
  };
  const boost::filtered_graph within(graph, boost::keep_all(), inside);
  // Colours of the visited vertices only: a search touches the operators between two collectives,
  // of a graph of perhaps a million. A new entry is white.
  std::unordered_map<Vertex, boost::default_color_type> colors;
  std::vector<int32_t> found;
  boost::queue<Vertex> queue;
  boost::breadth_first_visit(within, static_cast<Vertex>(from), queue, Collect(found),
                             boost::associative_property_map(colors));
  std::erase_if(found,
                [&](int32_t v) { return v == from || static_cast<Vertex>(v) == end_of_step; });
  return found;
}

}  // namespace preserve
