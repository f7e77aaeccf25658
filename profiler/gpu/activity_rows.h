// SPDX-License-Identifier: Apache-2.0
// A joined activity -> its rows in trace.db: the operator, and what is known of its communication.
#pragma once

#include <string>

#include "db/trace_db.h"
#include "profiler/gpu/records.h"

namespace preserve::gpu {

// Of a row of table string; empty when there is none.
std::string text_of(const TraceDb& db, int64_t string);

// The operator of `activity`, with its times as they are; a copy also gets the counter copy_bytes.
OpId add_op(TraceDb& db, const Activity& activity, StreamId stream, OpKind kind, StringId name,
            RangeId range, StepId step = {});

// Message size of one rank, as table collective defines it: what the library's call is given as
// count. Of the number of elements where `facts` has no bytes; nothing when that is unknown, too.
std::optional<int64_t> message_bytes(const CollectiveFacts& facts);
// `blocking`: the host waited.
void add_collective(TraceDb& db, OpId op, const CollectiveFacts& facts, bool blocking);
// What was learnt later of a collective whose bytes are not known.
void complete_collective(TraceDb& db, OpId op, const CollectiveFacts& facts);

}  // namespace preserve::gpu
