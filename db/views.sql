-- SPDX-License-Identifier: Apache-2.0
-- The query interface of trace.db: names resolved, durations computed. Stable across schema versions.

-- Operators with names: what most questions start from.
CREATE VIEW op_named AS
SELECT op.id, process.rank, stream.process_id, op.stream_id, op.kind, string.value AS name,
       op.start_ns, op.end_ns, op.end_ns - op.start_ns AS dur_ns, op.range_id, op.step_id
FROM op
JOIN stream ON stream.id = op.stream_id
JOIN process ON process.id = stream.process_id
JOIN string ON string.id = op.name_id;

-- NVTX ranges with names.
CREATE VIEW range_named AS
SELECT range.id, process.rank, range.stream_id, range.kind, domain.value AS domain,
       string.value AS name, range.depth, range.start_ns, range.end_ns,
       range.end_ns - range.start_ns AS dur_ns, range.parent_id
FROM range
JOIN stream ON stream.id = range.stream_id
JOIN process ON process.id = stream.process_id
JOIN string ON string.id = range.name_id
LEFT JOIN string AS domain ON domain.id = range.domain_id;

-- Collectives and point-to-point calls with their times.
CREATE VIEW collective_named AS
SELECT op_named.*, collective.function, collective.bytes, collective.dtype, collective.ranks,
       collective.communicator, collective.sequence, collective.blocking, collective.source,
       collective.confidence
FROM collective
JOIN op_named ON op_named.id = collective.op_id;

-- Accesses with operator and tensor names.
CREATE VIEW access_named AS
SELECT access.op_id, op_name.value AS op, access.operand, access.tensor_id,
       tensor_name.value AS tensor, tensor.role, access.offset_bytes, access.bytes, access.mode,
       access.source, access.confidence
FROM access
JOIN op ON op.id = access.op_id
JOIN string AS op_name ON op_name.id = op.name_id
JOIN tensor ON tensor.id = access.tensor_id
JOIN string AS tensor_name ON tensor_name.id = tensor.name_id;

-- Per stream: wall time from first to last operator, time covered by operators (union of intervals,
-- so that overlapping GPU operators count once), and the rest. attributed_ns + idle_ns = wall_ns.
CREATE VIEW stream_coverage AS
WITH marked AS (
  SELECT stream_id, start_ns, end_ns,
         MAX(end_ns) OVER (PARTITION BY stream_id ORDER BY start_ns, id
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS covered_to
  FROM op)
SELECT stream_id, MAX(end_ns) - MIN(start_ns) AS wall_ns,
       SUM(MAX(0, end_ns - MAX(start_ns, COALESCE(covered_to, start_ns)))) AS attributed_ns,
       MAX(end_ns) - MIN(start_ns)
         - SUM(MAX(0, end_ns - MAX(start_ns, COALESCE(covered_to, start_ns)))) AS idle_ns
FROM marked
GROUP BY stream_id;

-- What was lost, and nothing else: empty for a perfect recording.
CREATE VIEW loss_nonzero AS
SELECT process.rank, loss.process_id, loss.source, loss.kind, loss.count
FROM loss
LEFT JOIN process ON process.id = loss.process_id
WHERE loss.kind NOT IN ('received', 'written') AND loss.count > 0;

-- Counted replay samples with the name of the arm.
CREATE VIEW sample_counted AS
SELECT arm.name AS arm, sample.pair, sample.position, sample.step_ns
FROM sample
JOIN arm ON arm.id = sample.arm_id
WHERE sample.discarded IS NULL;
