// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/run.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/error.h"

namespace preserve {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<SqlValue>>;

// Of one rank in one round, far more than it finishes.
constexpr int64_t kMostOfRank = 4096;

// The cells without a result, as "1-5 9-9 ...".
std::string missing_cells(const ExploreResults& results, int64_t cells) {
  std::string text;
  for (int64_t id = 1; id <= cells; ++id) {
    if (results.has(id)) continue;
    int64_t last = id;
    while (last < cells && !results.has(last + 1)) ++last;
    text += fmt::format("{}{}-{}", text.empty() ? "" : " ", id, last);
    id = last;
  }
  return text;
}

// Hands out the missing cells in order; what was not finished comes first.
class Pending {
 public:
  explicit Pending(const std::string& missing) {
    for (size_t at = 0; at < missing.size();) {
      const size_t dash = missing.find('-', at),
                   end = std::min(missing.find(' ', at), missing.size());
      ranges_.push_back({std::stoll(missing.substr(at, dash - at)),
                         std::stoll(missing.substr(dash + 1, end - dash - 1))});
      at = end + 1;
    }
  }

  std::vector<int64_t> take(int64_t most) {
    std::vector<int64_t> ids = std::move(returned_);
    returned_.clear();
    while (static_cast<int64_t>(ids.size()) < most && next_ < ranges_.size()) {
      Range& range = ranges_[next_];
      ids.push_back(range.first++);
      if (range.first > range.last) ++next_;
    }
    return ids;
  }
  void give_back(int64_t id) { returned_.push_back(id); }

 private:
  struct Range {
    int64_t first = 1, last = 0;
  };
  std::vector<Range> ranges_;
  size_t next_ = 0;
  std::vector<int64_t> returned_;
};

// The first so many of `ids`, as many as there is time for, at least one.
Rows evaluate_some(const std::vector<int64_t>& ids, const RunOptions& options) {
  Rows rows(ids.size());
  std::atomic<size_t> next{0};
  std::mutex failing;
  std::exception_ptr failure;
  const int64_t end_ns = monotonic_ns() + options.round_ns;
  const auto work = [&] {
    try {
      while (true) {
        // The time is asked before a cell is taken: a cell that is taken is finished, so those that
        // were taken are the first ones.
        if (next.load() > 0 && monotonic_ns() >= end_ns) return;
        const size_t place = next.fetch_add(1);
        if (place >= ids.size()) return;
        rows[place] = explore_values(options.evaluate(ids[place]));
      }
    } catch (...) {
      const std::scoped_lock lock(failing);
      failure = std::current_exception();
      next = ids.size();
    }
  };
  std::vector<std::thread> others;
  const auto count = std::min<size_t>(static_cast<size_t>(options.threads), ids.size());
  for (size_t i = 1; i < count; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  rows.resize(std::min(next.load(), ids.size()));
  return rows;
}

// What one rank tells the others after a round.
struct Finished {
  Rows rows;
  bool stop = false;
};

std::string to_text(const Finished& finished) {
  Json list = Json::array();
  list.push_back(finished.stop);
  for (const std::vector<SqlValue>& row : finished.rows) {
    Json values = Json::array();
    for (const SqlValue& value : row) {
      std::visit([&](const auto& v) { values.push_back(v); }, value);
    }
    list.push_back(std::move(values));
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Finished from_text(const std::string& text) {
  const Json list = Json::parse(text);
  Finished finished;
  finished.stop = list.at(0).get<bool>();
  for (size_t i = 1; i < list.size(); ++i) {
    std::vector<SqlValue>& row = finished.rows.emplace_back();
    for (const Json& value : list[i]) {
      if (value.is_null()) {
        row.emplace_back(nullptr);
      } else if (value.is_number_integer()) {
        row.emplace_back(value.get<int64_t>());
      } else if (value.is_number()) {
        row.emplace_back(value.get<double>());
      } else {
        row.emplace_back(value.get<std::string>());
      }
    }
  }
  return finished;
}

}  // namespace

bool run_cells(const Ranks& ranks, ExploreResults* results, int64_t cells,
               const RunOptions& options) {
  const auto rank = static_cast<size_t>(ranks.rank()), size = static_cast<size_t>(ranks.size());
  Pending pending(
      ranks.all_texts(results == nullptr ? "" : missing_cells(*results, cells)).front());
  int64_t made = 0;
  for (bool stopped = false; !stopped;) {
    const std::vector<int64_t> dealt = pending.take(kMostOfRank * static_cast<int64_t>(size));
    if (dealt.empty()) return true;
    std::vector<int64_t> mine;
    for (size_t i = rank; i < dealt.size(); i += size) mine.push_back(dealt[i]);
    Finished here;
    if (!mine.empty()) here.rows = evaluate_some(mine, options);
    here.stop = options.stop && options.stop();
    // Of every rank, so that all of them know what is left.
    std::vector<Finished> all;
    if (size == 1) {
      all.push_back(std::move(here));
    } else {
      for (const std::string& text : ranks.all_texts(to_text(here))) all.push_back(from_text(text));
    }
    for (size_t i = 0; i < dealt.size(); ++i) {
      if (i / size >= all[i % size].rows.size()) pending.give_back(dealt[i]);
    }
    Rows together;
    for (Finished& of_rank : all) {
      stopped = stopped || of_rank.stop;
      made += static_cast<int64_t>(of_rank.rows.size());
      std::move(of_rank.rows.begin(), of_rank.rows.end(), std::back_inserter(together));
    }
    if (results == nullptr) continue;
    results->record(together);
    if (options.progress) options.progress(results->finished(), made);
  }
  return pending.take(1).empty();
}

}  // namespace preserve
