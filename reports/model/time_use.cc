// SPDX-License-Identifier: Apache-2.0
#include "reports/model/time_use.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "common/error.h"
#include "common/units.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kUnattributed = kTimeClasses.size() - 1;
constexpr size_t kTopOperators = 40;  // the rest is one row
constexpr size_t kCollectiveGroups = 64;

size_t time_class_of(std::string_view kind) {
  const auto found = std::ranges::find(kTimeClasses, kind);
  if (found == kTimeClasses.end()) throw internal_error("operator kind '{}' has no class", kind);
  return static_cast<size_t>(found - kTimeClasses.begin());
}

// A stretch of time of one process: a decode step, or the whole recording.
struct Span {
  size_t rank = 0;  // index into TimeUse::ranks
  int64_t start_ns = 0, end_ns = 0;
};

struct PassOp {
  size_t time_class;
  int64_t start_ns, end_ns;
};

struct OperatorKey {
  int64_t name_id;
  size_t time_class;
  bool operator==(const OperatorKey&) const = default;
};
struct OperatorKeyHash {
  size_t operator()(const OperatorKey& key) const {
    return std::hash<int64_t>()(key.name_id * 8 + static_cast<int64_t>(key.time_class));
  }
};

class Pass {
 public:
  explicit Pass(const TraceDb& db) : db_(db), sum_name_(db.file() + ": the sum of its times") {}

  TimeUse run() {
    refuse_damage();
    find_spans();
    if (spans_.empty()) {
      use_.scope = "whole recording";
      sweep_recording();
    } else {
      use_.scope = "decode steps";
      sweep_steps();
    }
    name_operators();
    summarise_collectives();
    return std::move(use_);
  }

 private:
  // Everywhere, also outside the scope: what was not looked at is not known to be sound.
  void refuse_damage() const {
    Query damaged = db_.query(
        "SELECT start_ns, end_ns FROM op "
        "WHERE end_ns < start_ns OR typeof(end_ns - start_ns) <> 'integer' LIMIT 1");
    if (damaged.next()) elapsed_ns(damaged.integer(0), damaged.integer(1), "an operator");
  }

  size_t rank_of_process(int64_t process) {
    const auto [place, is_new] = rank_index_.try_emplace(process, use_.ranks.size());
    if (is_new) {
      Query row = db_.query("SELECT rank, host, pid FROM process WHERE id = ?", {process});
      RankTime time;
      if (row.next()) {
        time.rank = row.optional_integer(0);
        time.process = fmt::format("{}:{}", clean(row.text(1)), row.integer(2));
      }
      use_.ranks.push_back(std::move(time));
    }
    return place->second;
  }

  // The steps that fold_step() folds: decode steps, or those of unknown phase where there is none,
  // without the first of a process that has more than three, because it runs cold.
  void find_spans() {
    Query rows = db_.query(
        "WITH chosen AS (SELECT process_id AS pid, MIN(phase) AS phase FROM step "
        "                WHERE phase IN ('decode', 'unknown') GROUP BY 1), "
        "     counted AS (SELECT pid, chosen.phase AS phase, COUNT(*) AS n, MIN(ordinal) AS least "
        "                 FROM chosen JOIN step ON process_id = pid AND step.phase = chosen.phase "
        "                 GROUP BY 1, 2) "
        "SELECT step.id, process_id, start_ns, end_ns FROM step "
        "JOIN counted ON pid = process_id AND counted.phase = step.phase "
        "WHERE n <= 3 OR ordinal > least "
        "ORDER BY (SELECT rank FROM process WHERE process.id = process_id), process_id, ordinal");
    while (rows.next()) {
      elapsed_ns(rows.integer(2), rows.integer(3), "a step");
      const size_t rank = rank_of_process(rows.integer(1));
      spans_.emplace(rows.integer(0), Span{rank, rows.integer(2), rows.integer(3)});
      ++use_.ranks[rank].steps;
    }
  }

  void count(int64_t name_id, size_t time_class, int64_t dur_ns) {
    OperatorTotal& total = totals_[{name_id, time_class}];
    total.names = 1;
    total.min_ns = total.count == 0 ? dur_ns : std::min(total.min_ns, dur_ns);
    total.max_ns = std::max(total.max_ns, dur_ns);
    total.total_ns = checked_add(total.total_ns, dur_ns, sum_name_);
    ++total.count;
    use_.total_ns = checked_add(use_.total_ns, dur_ns, sum_name_);
    ++use_.operators;
  }

  void sweep_span(const Span& span, std::vector<PassOp>& ops) {
    std::ranges::sort(ops, {}, &PassOp::start_ns);
    ClassSweep sweep(span.start_ns, span.end_ns);
    for (const PassOp& op : ops) sweep.add(op.time_class, op.start_ns, op.end_ns);
    sweep.finish(use_.ranks[span.rank], sum_name_);
    ops.clear();
  }

  // In the order of the index op_by_step, so nothing is sorted by the database.
  void sweep_steps() {
    Query rows = db_.query(
        "SELECT step_id, kind, name_id, start_ns, end_ns FROM op WHERE step_id IS NOT NULL "
        "ORDER BY step_id");
    std::vector<PassOp> ops;
    std::unordered_map<int64_t, Span> left = spans_;
    auto current = left.end();
    while (rows.next()) {
      const int64_t step = rows.integer(0);
      if (current == left.end() || current->first != step) {
        if (current != left.end()) sweep_span(current->second, ops), left.erase(current);
        current = left.find(step);
        if (current == left.end()) continue;
      }
      const PassOp op{time_class_of(to_text(rows.op_kind(1))), rows.integer(3), rows.integer(4)};
      count(rows.integer(2), op.time_class, elapsed_ns(op.start_ns, op.end_ns, "an operator"));
      ops.push_back(op);
    }
    if (current != left.end()) sweep_span(current->second, ops), left.erase(current);
    for (const auto& [step, span] : left) sweep_span(span, ops);  // steps without any operator
  }

  void sweep_recording() {
    Query rows = db_.query(
        "SELECT stream.process_id, op.kind, op.name_id, op.start_ns, op.end_ns FROM op "
        "JOIN stream ON stream.id = op.stream_id ORDER BY process_id, op.start_ns");
    std::optional<ClassSweep> sweep;
    int64_t process = 0;
    size_t rank = 0;
    while (rows.next()) {
      if (!sweep || rows.integer(0) != process) {
        if (sweep) sweep->finish(use_.ranks[rank], sum_name_);
        process = rows.integer(0);
        rank = rank_of_process(process);
        const int64_t end_ns = db_.query_integer(
                                      "SELECT MAX(end_ns) FROM op JOIN stream ON stream.id = "
                                      "stream_id WHERE process_id = ?",
                                      {process})
                                   .value_or(rows.integer(4));
        elapsed_ns(rows.integer(3), end_ns, "a recording");
        sweep.emplace(rows.integer(3), end_ns);
      }
      const PassOp op{time_class_of(to_text(rows.op_kind(1))), rows.integer(3), rows.integer(4)};
      count(rows.integer(2), op.time_class, elapsed_ns(op.start_ns, op.end_ns, "an operator"));
      sweep->add(op.time_class, op.start_ns, op.end_ns);
    }
    if (sweep) sweep->finish(use_.ranks[rank], sum_name_);
  }

  int64_t elapsed_ns(int64_t start_ns, int64_t end_ns, const char* what) const {
    int64_t dur_ns = 0;
    if (end_ns < start_ns || __builtin_sub_overflow(end_ns, start_ns, &dur_ns)) {
      throw input_error("{}: {} lasts from {} ns to {} ns: the file is damaged", db_.file(), what,
                        start_ns, end_ns);
    }
    return dur_ns;
  }

  // One pass over all strings: a step may have as many names as operators.
  std::unordered_map<int64_t, std::string> patterns_of_names() const {
    std::unordered_map<int64_t, std::string> patterns;
    for (const auto& [key, total] : totals_) patterns[key.name_id];
    Query rows = db_.query("SELECT id, value FROM string");
    while (rows.next()) {
      const auto used = patterns.find(rows.integer(0));
      if (used != patterns.end()) used->second = without_layer_numbers(clean(rows.text(1)));
    }
    return patterns;
  }

  // Gathers the layers of a model: totals by name become totals by name without layer numbers.
  std::vector<OperatorTotal> totals_by_pattern() {
    const std::unordered_map<int64_t, std::string> names = patterns_of_names();
    std::map<std::pair<std::string, size_t>, OperatorTotal> patterns;
    for (const auto& [key, total] : totals_) {
      merge(patterns[{names.at(key.name_id), key.time_class}], total);
    }
    std::vector<OperatorTotal> rows;
    for (auto& [key, total] : patterns) {
      total.name = key.first;
      total.kind = kTimeClasses[key.second];
      rows.push_back(std::move(total));
    }
    return rows;
  }

  static void merge(OperatorTotal& into, const OperatorTotal& total) {
    into.min_ns = into.count == 0 ? total.min_ns : std::min(into.min_ns, total.min_ns);
    into.max_ns = std::max(into.max_ns, total.max_ns);
    into.count += total.count;
    into.total_ns += total.total_ns;  // cannot overflow: use_.total_ns did not
    into.names += total.names;
  }

  void name_operators() {
    use_.top = totals_by_pattern();
    std::ranges::stable_sort(use_.top, std::ranges::greater(), &OperatorTotal::total_ns);
    if (use_.top.size() <= kTopOperators) return;
    OperatorTotal others{.name = "[others]"};
    for (size_t i = kTopOperators; i < use_.top.size(); ++i) merge(others, use_.top[i]);
    use_.top.resize(kTopOperators);
    use_.top.push_back(std::move(others));
  }

  void summarise_collectives() {
    using Key =
        std::tuple<std::string, std::optional<int64_t>, std::string, std::optional<int64_t>>;
    std::map<Key, std::vector<double>> groups;
    Query rows = db_.query(
        "SELECT op.step_id, function, bytes, COALESCE(dtype, ''), ranks, end_ns - start_ns "
        "FROM collective JOIN op ON op.id = collective.op_id");
    while (rows.next()) {
      if (!spans_.empty() && (rows.is_null(0) || spans_.count(rows.integer(0)) == 0)) continue;
      groups[{clean(rows.text(1)), rows.optional_integer(2), clean(rows.text(3)),
              rows.optional_integer(4)}]
          .push_back(static_cast<double>(rows.integer(5)));
    }
    for (auto& [key, durations] : groups) {
      std::ranges::sort(durations);
      const auto at = [&values = durations](double q) {
        return static_cast<int64_t>(
            values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))]);
      };
      CollectiveGroup group{std::get<0>(key), std::get<2>(key), std::get<1>(key), std::get<3>(key)};
      group.count = static_cast<int64_t>(durations.size());
      for (const double dur_ns : durations) {
        group.total_ns = checked_add(group.total_ns, static_cast<int64_t>(dur_ns), sum_name_);
      }
      group.min_ns = at(0);
      group.p10_ns = at(0.1);
      group.median_ns = at(0.5);
      group.p90_ns = at(0.9);
      group.max_ns = at(1);
      use_.collectives.push_back(std::move(group));
    }
    std::ranges::stable_sort(use_.collectives, std::ranges::greater(), &CollectiveGroup::total_ns);
    if (use_.collectives.size() > kCollectiveGroups) use_.collectives.resize(kCollectiveGroups);
  }

  const TraceDb& db_;
  std::string sum_name_;  // for messages about overflow
  TimeUse use_;
  std::unordered_map<int64_t, Span> spans_;         // by step id
  std::unordered_map<int64_t, size_t> rank_index_;  // by process id
  std::unordered_map<OperatorKey, OperatorTotal, OperatorKeyHash> totals_;
};

}  // namespace

TimeUse summarise_time(const TraceDb& db) {
  return Pass(db).run();
}

void ClassSweep::advance(int64_t to_ns) {
  const auto later = [](const Running& a, const Running& b) { return a.end_ns > b.end_ns; };
  while (now_ns_ < to_ns) {
    const int64_t until =
        running_.empty() ? to_ns : std::clamp(running_.front().end_ns, now_ns_, to_ns);
    const int64_t passed = until - now_ns_;
    size_t winner = kUnattributed;
    for (size_t c = kUnattributed; c-- > 0;) {
      if (active_[c] == 0) continue;
      classes_[c].busy_ns += passed;
      winner = c;  // classes are in order of precedence: the smallest active one stays
    }
    classes_[winner].exclusive_ns += passed;
    if (winner == kUnattributed) classes_[winner].busy_ns += passed;
    now_ns_ = until;
    while (!running_.empty() && running_.front().end_ns <= now_ns_) {
      --active_[running_.front().time_class];
      std::pop_heap(running_.begin(), running_.end(), later);
      running_.pop_back();
    }
  }
}

void ClassSweep::add(size_t time_class, int64_t start_ns, int64_t end_ns) {
  ++classes_[time_class].operators;
  const int64_t from = std::max(start_ns, begin_ns_);
  const int64_t to = std::min(end_ns, end_ns_);
  if (to <= from) return;
  advance(from);
  running_.push_back({to, time_class});
  std::push_heap(running_.begin(), running_.end(),
                 [](const Running& a, const Running& b) { return a.end_ns > b.end_ns; });
  ++active_[time_class];
}

void ClassSweep::finish(RankTime& into, std::string_view sum_name) {
  advance(end_ns_);
  into.wall_ns = checked_add(into.wall_ns, end_ns_ - begin_ns_, sum_name);
  for (size_t c = 0; c < classes_.size(); ++c) {
    into.classes[c].exclusive_ns += classes_[c].exclusive_ns;
    into.classes[c].busy_ns += classes_[c].busy_ns;
    into.classes[c].operators += classes_[c].operators;
  }
}

}  // namespace preserve::report
