// SPDX-License-Identifier: Apache-2.0
#include "profiler/clocks/clock_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace preserve::clocks {
namespace {

constexpr int64_t kLatestNs = int64_t{1} << 59;  // no machine was up for longer
// Readings closer together than this say nothing of a rate: a millionth is a tenth of a us then.
constexpr int64_t kLeastSpanNs = 100'000'000;
constexpr double kQuartz = 50e-6;   // by which two clocks differ that nobody disciplines
constexpr double kSteepest = 1e-3;  // an adjusted clock is slewed by at most half of it
constexpr int kHalvings = 60;

bool possible(const Reading& reading) {
  const auto is_time = [](int64_t ns) { return ns >= 0 && ns < kLatestNs; };
  return is_time(reading.local_ns) && is_time(reading.common_ns) && reading.round_trip_ns > 0 &&
         reading.round_trip_ns < kLatestNs;
}

double offset_of(const Reading& reading) {
  return static_cast<double>(reading.common_ns - reading.local_ns);
}

// For one rate: the offset half-way between the bounds, and the room to them on either side.
struct Middle {
  double offset_ns, room_ns;
};
Middle middle(const std::vector<Bounds>& bounds, int64_t from_ns, double drift) {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  for (const Bounds& each : bounds) {
    const double grown = drift * static_cast<double>(each.ns - from_ns);
    least = std::max(least, each.least_ns - grown);
    most = std::min(most, each.most_ns - grown);
  }
  return {least + (most - least) / 2, (most - least) / 2};
}

}  // namespace

std::optional<Line> line_through(std::vector<Reading> readings, int64_t end_ns) {
  std::erase_if(readings, [](const Reading& reading) { return !possible(reading); });
  if (readings.empty()) return std::nullopt;
  std::ranges::sort(readings, {}, &Reading::local_ns);
  Line line;
  line.readings = static_cast<int64_t>(readings.size());
  // Offsets may be days: sums are taken of what is left after the first one.
  const double first = offset_of(readings.front());
  const auto since_first = [&](const Reading& reading) {
    return static_cast<double>(reading.local_ns - readings.front().local_ns);
  };
  // Half a round trip is what a reading may be wrong by.
  const auto weight = [](const Reading& reading) {
    return std::pow(static_cast<double>(reading.round_trip_ns) / 2, -2);
  };
  double weights = 0, mean_ns = 0, mean_offset = 0;
  for (const Reading& reading : readings) {
    weights += weight(reading);
    mean_ns += weight(reading) * since_first(reading);
    mean_offset += weight(reading) * (offset_of(reading) - first);
  }
  mean_ns /= weights;
  mean_offset /= weights;
  const double span_ns = since_first(readings.back());
  double both = 0, square = 0;
  for (const Reading& reading : readings) {
    const double at = since_first(reading) - mean_ns;
    both += weight(reading) * at * (offset_of(reading) - first - mean_offset);
    square += weight(reading) * at * at;
  }
  const bool rate = span_ns >= kLeastSpanNs;
  if (rate) line.drift = both / square;
  // Each reading may be wrong by half its round trip, and all of them in the same way: the sum of
  // what that does to the line, at the end where it does more.
  for (const double end : {-mean_ns, span_ns - mean_ns}) {
    double error_ns = 0;
    for (const Reading& reading : readings) {
      const double at = since_first(reading) - mean_ns;
      const double share = 1 / weights + (rate ? at * end / square : 0);
      error_ns +=
          std::abs(weight(reading) * share) * static_cast<double>(reading.round_trip_ns) / 2;
    }
    line.error_ns = std::max(line.error_ns, error_ns);
  }
  line.from_ns = readings.front().local_ns;
  line.offset_ns = first + mean_offset - line.drift * mean_ns;
  for (const Reading& reading : readings) {
    line.residual_ns =
        std::max(line.residual_ns, std::abs(offset_of(reading) - line.offset_at(reading.local_ns)));
  }
  if (span_ns < kLeastSpanNs) {
    line.error_ns += kQuartz * static_cast<double>(std::max<int64_t>(0, end_ns - line.from_ns));
  }
  return line;
}

Line line_between(const std::vector<Bounds>& bounds) {
  Line line;
  line.readings = static_cast<int64_t>(bounds.size());
  const auto [first, last] = std::ranges::minmax_element(bounds, {}, &Bounds::ns);
  line.from_ns = first->ns;
  const auto room = [&](double drift) { return middle(bounds, line.from_ns, drift).room_ns; };
  if (last->ns - first->ns >= kLeastSpanNs) {
    double low = -kSteepest, high = kSteepest;  // the room has one maximum between them
    for (int i = 0; i < kHalvings; ++i) {
      const double third = (high - low) / 3;
      if (room(low + third) < room(high - third)) {
        low += third;
      } else {
        high -= third;
      }
    }
    const double best = low + (high - low) / 2;
    // A rate that hardly makes more room is none that was measured.
    if (room(0) < 0 || room(best) > 1.2 * room(0)) line.drift = best;
  }
  const Middle chosen = middle(bounds, line.from_ns, line.drift);
  line.offset_ns = chosen.offset_ns;
  line.error_ns = std::max(0.0, chosen.room_ns);
  line.residual_ns = std::max(0.0, -chosen.room_ns);
  return line;
}

void move_times(TraceDb& db, const std::vector<Found>& found) {
  db.execute(
      "CREATE TEMP TABLE move (process_id INTEGER PRIMARY KEY, from_ns INTEGER NOT NULL, "
      "offset_ns REAL NOT NULL, drift REAL NOT NULL)");
  bool any = false;
  for (const Found& each : found) {
    const Line& line = each.line;
    const int64_t start_ns =
        db.query_integer("SELECT start_ns FROM process WHERE id = ?", {each.process.value})
            .value_or(line.from_ns);
    const int64_t offset_ns = each.moved ? std::llround(line.offset_at(start_ns)) : 0;
    // A line that moves nothing takes nothing away from what an earlier one said.
    db.execute(fmt::format("INSERT OR {} INTO clock VALUES (?,?,?,?,?,?,?,?)",
                           each.moved ? "REPLACE" : "IGNORE"),
               {each.process.value, std::string(each.source), line.readings, offset_ns,
                each.moved ? line.drift : 0.0, std::llround(line.error_ns),
                std::llround(line.residual_ns), nullptr});
    if (!each.moved) continue;
    any = true;
    db.execute("INSERT INTO move VALUES (?,?,?,?)",
               {each.process.value, line.from_ns, line.offset_ns, line.drift});
  }
  const auto moved = [](const char* column) {
    return fmt::format(
        "{0} = {0} + CAST(round(move.offset_ns + move.drift * ({0} - move.from_ns)) AS INTEGER)",
        column);
  };
  const auto update = [&](const char* table, const char* first, const char* second,
                          const char* whose) {
    db.execute(
        fmt::format("UPDATE {} SET {}, {} FROM {}", table, moved(first), moved(second), whose));
  };
  if (any) {
    constexpr const char* kOfStream =
        "stream JOIN move ON move.process_id = stream.process_id WHERE stream.id = stream_id";
    update("op", "start_ns", "end_ns", kOfStream);
    update("range", "start_ns", "end_ns", kOfStream);
    update("step", "start_ns", "end_ns", "move WHERE move.process_id = step.process_id");
    update("tensor", "valid_from_ns", "valid_to_ns",
           "move WHERE move.process_id = tensor.process_id");
    update("process", "start_ns", "end_ns", "move WHERE move.process_id = process.id");
  }
  db.execute("DROP TABLE move");
}

}  // namespace preserve::clocks
