// SPDX-License-Identifier: Apache-2.0
// How much of what was fetched is still cached when it is read, and how much to fetch therefore.
// The same for every kind of device. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/schedule/device.h"

namespace preserve {

// A larger footprint never survives better: points (ascending footprints) that say otherwise are
// averaged with their neighbours. Fractions are clamped to 0..1 and rounded to three digits.
std::vector<SurvivalPoint> never_rising(const std::vector<SurvivalPoint>& measured);

// The footprint with the largest surplus of bytes that are hit over bytes that are lost, at most
// the share: noise can make the curve show more than the cache can hold.
int64_t cache_budget(const std::vector<SurvivalPoint>& survival, int64_t share_bytes);

// The same between the points: the smallest footprint, on straight lines from point to point, with
// nineteen twentieths of that surplus. It moves little when the curve does, where the largest
// surplus would jump from point to point.
int64_t cache_budget_between(const std::vector<SurvivalPoint>& survival, int64_t share_bytes);

}  // namespace preserve
