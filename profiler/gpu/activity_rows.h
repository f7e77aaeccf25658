// SPDX-License-Identifier: Apache-2.0
// A joined activity -> its rows in trace.db: the operator, and what is known of its communication.
#pragma once

#include "db/trace_db.h"
#include "profiler/gpu/records.h"

namespace preserve::gpu {

// The operator of `activity`, with its times as they are; a copy also gets the counter copy_bytes.
OpId add_op(TraceDb& db, const Activity& activity, StreamId stream, OpKind kind, StringId name,
            RangeId range);

// Bytes come from the number of elements where `facts` has no bytes. `blocking`: the host waited.
// What was learnt later of a collective whose bytes are not known.
void complete_collective(TraceDb& db, OpId op, const CollectiveFacts& facts);

void add_collective(TraceDb& db, OpId op, const CollectiveFacts& facts, bool blocking);

}  // namespace preserve::gpu
