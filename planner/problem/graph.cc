// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/graph.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/filtered_graph.hpp>
#include <boost/graph/topological_sort.hpp>
#include <boost/property_map/property_map.hpp>
#include <functional>
#include <optional>
#include <queue>
#include <unordered_map>

#include "common/error.h"

namespace preserve {

namespace {

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS>;
using Vertex = boost::graph_traits<Graph>::vertex_descriptor;
using Edge = boost::graph_traits<Graph>::edge_descriptor;

// A search touches the operators between two collectives, of a graph of perhaps a million: colours
// are kept for what it touches only.
class SparseColors {
 public:
  using key_type = Vertex;
  using value_type = boost::default_color_type;
  using reference = value_type;
  using category = boost::read_write_property_map_tag;

  explicit SparseColors(std::unordered_map<Vertex, value_type>& colors) : colors_(&colors) {}
  friend value_type get(const SparseColors& map, Vertex vertex) {
    const auto found = map.colors_->find(vertex);
    return found == map.colors_->end() ? boost::white_color : found->second;
  }
  friend void put(const SparseColors& map, Vertex vertex, value_type color) {
    (*map.colors_)[vertex] = color;
  }

 private:
  std::unordered_map<Vertex, value_type>* colors_;
};

// Edges that the search may follow: not into a boundary.
struct NotIntoBoundary {
  const Graph* graph = nullptr;
  const std::vector<uint8_t>* boundary = nullptr;
  bool operator()(const Edge& edge) const {
    const Vertex to = target(edge, *graph);
    return to >= boundary->size() || (*boundary)[to] == 0;  // the end of the step is no boundary
  }
};

class Collect : public boost::default_bfs_visitor {
 public:
  explicit Collect(std::vector<int32_t>& found) : found_(&found) {}
  template <typename AnyGraph>
  void discover_vertex(Vertex vertex, const AnyGraph&) {
    found_->push_back(static_cast<int32_t>(vertex));
  }

 private:
  std::vector<int32_t>* found_;
};

}  // namespace

struct OperatorGraph::State {
  explicit State(size_t operators) : graph(operators), wrapped(operators + 1) {}

  Graph graph;    // within the step: acyclic
  Graph wrapped;  // with the edges into the next step
};

namespace {

// Which of the operators that had ended before a given time ended last. Times must be asked
// ascending.
class LastEnded {
 public:
  explicit LastEnded(const FoldedStep& step) : step_(step) {}

  void started(Vertex v) { running_.emplace(end_of(v), v); }
  std::optional<Vertex> before(double time_ns) {
    for (; !running_.empty() && running_.top().first <= time_ns; running_.pop()) {
      last_ = running_.top().second;
    }
    return last_;
  }

 private:
  using Ending = std::pair<double, Vertex>;
  double end_of(Vertex v) const { return step_.ops[v].start_ns + step_.ops[v].dur_ns; }

  const FoldedStep& step_;
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> running_;
  std::optional<Vertex> last_;
};

}  // namespace

OperatorGraph::OperatorGraph(const FoldedStep& step)
    : state_(std::make_unique<State>(step.ops.size())) {
  const size_t count = step.ops.size();
  Graph& graph = state_->graph;
  // The end of the step, as a vertex of its own, leads every last operator to every first one.
  Graph& wrapped = state_->wrapped;
  const Vertex end_of_step = count;
  LastEnded last_ended(step);
  std::unordered_map<int32_t, Vertex> last_on_stream, writer;
  for (Vertex v = 0; v < count; ++v) {
    const StepOp& op = step.ops[v];
    std::vector<Vertex> sources;
    if (const auto u = last_on_stream.find(op.stream); u != last_on_stream.end()) {
      sources.push_back(u->second);
    }
    if (const auto u = last_ended.before(op.start_ns)) sources.push_back(*u);
    for (const StepAccess& access : op.accesses) {
      if (access.mode != AccessMode::read) continue;
      if (const auto u = writer.find(access.tensor); u != writer.end())
        sources.push_back(u->second);
    }
    std::sort(sources.begin(), sources.end());
    sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
    for (const Vertex u : sources) {
      boost::add_edge(u, v, graph);
      boost::add_edge(u, v, wrapped);
    }
    if (sources.empty()) boost::add_edge(end_of_step, v, wrapped);
    for (const StepAccess& access : op.accesses) {
      if (access.mode == AccessMode::write) writer[access.tensor] = v;
    }
    last_on_stream[op.stream] = v;
    last_ended.started(v);
  }
  for (Vertex v = 0; v < count; ++v) {
    if (boost::out_degree(v, graph) == 0) boost::add_edge(v, end_of_step, wrapped);
  }
  topological_order();  // proves the step acyclic
}

OperatorGraph::~OperatorGraph() = default;
OperatorGraph::OperatorGraph(OperatorGraph&&) noexcept = default;

size_t OperatorGraph::edge_count() const {
  return boost::num_edges(state_->graph);
}

std::vector<int32_t> OperatorGraph::topological_order() const {
  std::vector<Vertex> reversed;
  reversed.reserve(boost::num_vertices(state_->graph));
  try {
    boost::topological_sort(state_->graph, std::back_inserter(reversed));
  } catch (const boost::not_a_dag&) {
    throw input_error("the operators of the step depend on each other in a circle");
  }
  return {reversed.rbegin(), reversed.rend()};
}

std::vector<int32_t> OperatorGraph::breadth_first(int32_t from,
                                                  const std::vector<uint8_t>& is_boundary) const {
  const Graph& graph = state_->wrapped;
  const boost::filtered_graph<Graph, NotIntoBoundary> inside(graph, {&graph, &is_boundary});
  std::unordered_map<Vertex, boost::default_color_type> colors;
  std::vector<int32_t> found;
  boost::queue<Vertex> queue;
  boost::breadth_first_visit(inside, static_cast<Vertex>(from), queue, Collect(found),
                             SparseColors(colors));
  const auto end_of_step = static_cast<int32_t>(is_boundary.size());
  std::erase_if(found, [&](int32_t v) { return v == from || v == end_of_step; });
  return found;
}

}  // namespace preserve
