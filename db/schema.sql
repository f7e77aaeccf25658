-- SPDX-License-Identifier: Apache-2.0
-- trace.db. One file holds one run: a recorded program, a
-- replay of its schedule, or a grid of replays. Times are integer ns on CLOCK_MONOTONIC of the host, sizes integer bytes.
-- A fact that is not known is NULL, never 0. Nothing is changed after the file was closed.
-- Checks are run on what comes from another file; what a producer adds is seen to by TraceDb::add(). Those of three and
-- more words are chains of OR: SQLite builds a temporary table for each row that an IN of that many is checked for.

-- Facts about the file itself: tool_version, clock, incomplete (0 or 1), finished (1), counters (dram,l2: a
-- recording of hardware counters, whose times are not the program's), mpi_library (its name and version), pages (huge or
-- base: on which most of the anonymous memory of the ranks was), notes of
-- the producer.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,          -- lower_snake name of the fact
  value TEXT NOT NULL              -- its value as text
) STRICT, WITHOUT ROWID;

-- Names, stored once.
CREATE TABLE string (
  id    INTEGER PRIMARY KEY,       -- referenced by columns called *name_id and domain_id
  value TEXT NOT NULL              -- UTF-8; invalid bytes were replaced
) STRICT;

-- One row per operating-system process that left a record.
CREATE TABLE process (
  id         INTEGER PRIMARY KEY,  -- this file's own number
  host       TEXT NOT NULL,        -- host name
  pid        INTEGER NOT NULL,     -- process id on that host
  ppid       INTEGER,              -- its parent
  rank       INTEGER,              -- rank in the world communicator, NULL when there is none
  world_size INTEGER,              -- size of the world communicator
  command    TEXT NOT NULL,        -- command line, arguments separated by spaces
  start_ns   INTEGER NOT NULL,     -- first moment covered by the recording
  end_ns     INTEGER NOT NULL,     -- last moment covered by the recording
  complete   INTEGER NOT NULL      -- 1: closed in order; 0: crashed or killed, the last records are missing
    CHECK (complete IN (0, 1))
) STRICT;

-- Environment variables from the allow-list (docs/formats.md); no others are ever stored.
CREATE TABLE env (
  process_id INTEGER NOT NULL REFERENCES process (id), -- whose environment
  name       TEXT NOT NULL,        -- variable name
  value      TEXT NOT NULL,        -- its value
  PRIMARY KEY (process_id, name)
) STRICT, WITHOUT ROWID;

-- A device that executes operators: a host's processor or an accelerator.
CREATE TABLE device (
  id           INTEGER PRIMARY KEY, -- this file's own number
  host         TEXT NOT NULL,       -- where it is
  kind         TEXT NOT NULL CHECK (kind IN ('cpu', 'gpu')), -- processor or accelerator
  name         TEXT NOT NULL,       -- model name as the system gives it
  cache_bytes  INTEGER,             -- last-level cache (CPU) or L2 (GPU)
  memory_bytes INTEGER,             -- size of its memory
  memory_bandwidth_bytes_per_s INTEGER, -- nominal or known bandwidth of its memory
  units        INTEGER              -- cores (CPU) or streaming multiprocessors (GPU)
) STRICT;

-- An ordered queue of operators: a host thread, what a thread left running in the background
-- (non-blocking communication), or a GPU stream.
CREATE TABLE stream (
  id         INTEGER PRIMARY KEY,  -- this file's own number
  process_id INTEGER NOT NULL REFERENCES process (id), -- owner
  device_id  INTEGER REFERENCES device (id),           -- where its operators run
  kind       TEXT NOT NULL CHECK (kind = 'thread' OR kind = 'async' OR kind = 'gpu'), -- as above
  native_id  INTEGER NOT NULL,     -- thread id, or the number of the GPU stream
  name       TEXT                  -- name that the program gave
) STRICT;

-- NVTX ranges and marks. Push/pop ranges of a stream nest; start/end ranges need not.
CREATE TABLE range (
  id        INTEGER PRIMARY KEY,   -- this file's own number
  stream_id INTEGER NOT NULL REFERENCES stream (id), -- thread that opened it
  parent_id INTEGER,               -- enclosing push/pop range of the same thread
  kind      TEXT NOT NULL
    CHECK (kind = 'push_pop' OR kind = 'start_end' OR kind = 'mark'), -- how it was made
  domain_id INTEGER REFERENCES string (id), -- NVTX domain name, NULL for the default domain
  name_id   INTEGER NOT NULL REFERENCES string (id), -- message
  depth     INTEGER NOT NULL,      -- nesting depth, 0 outermost
  start_ns  INTEGER NOT NULL,      -- begin
  end_ns    INTEGER,               -- end; NULL when the recording ended first
  payload   TEXT                   -- NVTX payload as JSON
) STRICT;

-- One row per executed operator. On a host thread operators never overlap; on a GPU stream they may.
CREATE TABLE op (
  id             INTEGER PRIMARY KEY, -- this file's own number, rising with start_ns in a stream
  stream_id      INTEGER NOT NULL REFERENCES stream (id), -- where it ran
  kind           TEXT NOT NULL
    CHECK (kind = 'compute' OR kind = 'collective' OR kind = 'p2p' OR kind = 'copy'
      OR kind = 'other'), -- other: known time, unknown use
  name_id        INTEGER NOT NULL REFERENCES string (id), -- kernel name, range name or function
  start_ns       INTEGER NOT NULL, -- begin
  end_ns         INTEGER NOT NULL, -- end, never before start_ns
  correlation_id INTEGER,          -- links a GPU operator to its launch; reused by the driver
  graph_id       INTEGER,          -- CUDA graph that it ran in
  graph_node_id  INTEGER,          -- node of that graph
  range_id       INTEGER,          -- innermost push/pop range around its launch
  step_id        INTEGER           -- step that it belongs to
) STRICT;

-- Communication: what is known of an op of kind collective or p2p.
CREATE TABLE collective (
  op_id        INTEGER PRIMARY KEY REFERENCES op (id), -- the operator
  function     TEXT NOT NULL,      -- allreduce, allgather, reduce_scatter, broadcast, send, ...
  bytes        INTEGER,            -- message size of one rank: count times size of the type
  dtype        TEXT,               -- element type as the library names it
  ranks        INTEGER,            -- size of the communicator
  communicator INTEGER,            -- same value on all ranks of one communicator
  sequence     INTEGER,            -- n-th collective of this communicator on this rank
  peer         INTEGER,            -- other rank of a point-to-point call, or the root
  blocking     INTEGER NOT NULL CHECK (blocking IN (0, 1)), -- 0: the call returned before it was done
  source       TEXT NOT NULL,      -- pmpi, nccl_nvtx, nccl_plugin, nccl_inspector, kineto (kernel),
                                   -- kineto_host (launching call), shapes, params, kernel_name, replay
  confidence   REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1) -- 1: as reported by the library
) STRICT;

-- Matrix products: activations (m x k) by weights (n x k), the output is m x n.
CREATE TABLE gemm (
  op_id  INTEGER PRIMARY KEY REFERENCES op (id), -- the operator
  m      INTEGER NOT NULL CHECK (m > 0), -- rows of the activations: tokens or sequences
  n      INTEGER NOT NULL CHECK (n > 0), -- rows of the weights: output features
  k      INTEGER NOT NULL CHECK (k > 0), -- columns of both: input features
  dtype  TEXT,                     -- elements of the weights: fp64, fp32, fp16, bf16, fp8, int8
  source TEXT NOT NULL             -- shapes (recorded by the framework), model
) STRICT;

-- Named memory. A tensor that was resized or re-registered has one row per period of validity.
CREATE TABLE tensor (
  id            INTEGER PRIMARY KEY, -- this file's own number
  process_id    INTEGER NOT NULL REFERENCES process (id), -- owner
  name_id       INTEGER NOT NULL REFERENCES string (id),  -- as the program named it
  role          TEXT NOT NULL
    CHECK (role = 'weight' OR role = 'kv' OR role = 'activation' OR role = 'comm'
      OR role = 'unknown'), -- what it holds
  base          INTEGER,           -- address, only meaningful inside that process
  bytes         INTEGER NOT NULL CHECK (bytes >= 0), -- size
  source        TEXT NOT NULL,     -- nvtx_mem, allocation (nobody named it), params, shapes, inferred, model
  valid_from_ns INTEGER,           -- NULL: from the start
  valid_to_ns   INTEGER            -- NULL: to the end
) STRICT;

-- Which operator touches which bytes of which tensor.
CREATE TABLE access (
  op_id        INTEGER NOT NULL REFERENCES op (id), -- the operator
  operand      INTEGER NOT NULL,   -- position among the operands of that operator, from 0
  tensor_id    INTEGER NOT NULL REFERENCES tensor (id), -- the tensor
  offset_bytes INTEGER NOT NULL CHECK (offset_bytes >= 0), -- first byte touched, within the tensor
  bytes        INTEGER NOT NULL CHECK (bytes >= 0), -- how many
  mode         TEXT NOT NULL CHECK (mode IN ('read', 'write')), -- direction
  source       TEXT NOT NULL,      -- range_name, touch, params, shapes, inferred, model
  confidence   REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1), -- 1: certain
  PRIMARY KEY (op_id, operand)
) STRICT, WITHOUT ROWID;

-- Hardware counters of an operator.
CREATE TABLE counter (
  op_id  INTEGER NOT NULL REFERENCES op (id), -- the operator
  metric TEXT NOT NULL,            -- dram_read_bytes, l2_read_bytes, floor_ns, ...
  value  REAL NOT NULL,            -- in the unit that the metric name says
  PRIMARY KEY (op_id, metric)
) STRICT, WITHOUT ROWID;

-- Repetitions of the decode or prefill step, per process.
CREATE TABLE step (
  id         INTEGER PRIMARY KEY,  -- this file's own number
  process_id INTEGER NOT NULL REFERENCES process (id), -- whose step
  ordinal    INTEGER NOT NULL,     -- 0, 1, 2 ... in time
  phase      TEXT NOT NULL
    CHECK (phase = 'decode' OR phase = 'prefill' OR phase = 'unknown'), -- what it computes
  start_ns   INTEGER NOT NULL,     -- begin
  end_ns     INTEGER NOT NULL,     -- end
  source     TEXT NOT NULL
    CHECK (source = 'nvtx' OR source = 'detected' OR source = 'counted' OR source = 'replay'
      OR source = 'model') -- how it was found; detected: guessed from the period of the collectives;
                           -- counted: the user said how many collectives a step has
) STRICT;

-- How far the decode steps of a process are alike, as they are folded: what limits every prediction from them.
-- docs/metrics.md says how each is computed and from where on a recording is too noisy to plan from.
CREATE TABLE quality (
  process_id   INTEGER PRIMARY KEY REFERENCES process (id), -- whose steps
  steps        INTEGER NOT NULL,   -- looked at: all, or evenly spaced ones of a very long recording; not the cold first
  steps_used   INTEGER NOT NULL,   -- of these, how many have the most frequent sequence of operators
  interrupted  INTEGER NOT NULL,   -- of these, how many lasted more than 1.5 times the median
  step_ns      REAL NOT NULL,      -- median step
  step_mad_ns  REAL NOT NULL,      -- its median absolute deviation
  explained_ns REAL NOT NULL,      -- of the folded step, when some operator runs
  repeating_ns REAL NOT NULL,      -- sum of the medians of operators and gaps, on the stream of the collectives
  varying      REAL NOT NULL       -- sum of the operators' median absolute deviations / sum of their medians
) STRICT;

-- How the clock of a process was brought onto the common one of the file, where several hosts were recorded
-- together. Times of this file are on the common clock already.
CREATE TABLE clock (
  process_id    INTEGER PRIMARY KEY REFERENCES process (id), -- whose clock
  source        TEXT NOT NULL      -- round_trips: to the launcher; collectives: what matching ones allow
    CHECK (source = 'round_trips' OR source = 'collectives'),
  readings      INTEGER NOT NULL,  -- round trips, or collectives, that were looked at
  offset_ns     INTEGER NOT NULL,  -- added to its start_ns; 0: its clock is the common one
  drift         REAL NOT NULL,     -- ns by which the offset grows per ns
  error_ns      INTEGER NOT NULL,  -- within which the offset is known
  residual_ns   INTEGER NOT NULL,  -- most by which a reading differs from the line of offset and drift
  left_early_ns INTEGER            -- most by which it left a collective before another process had entered it, which
                                   -- cannot be; NULL: not checked, or it had no matching collective
) STRICT;

-- What happened to the records of each source: received = written + dropped + the other kinds.
CREATE TABLE loss (
  process_id INTEGER REFERENCES process (id), -- NULL: of the whole file
  source     TEXT NOT NULL,        -- nvtx, mpi, cupti, nccl, spool, import
  kind       TEXT NOT NULL,        -- received, written, dropped, zero_timestamp, unmatched, clipped, ...
  count      INTEGER NOT NULL      -- records
) STRICT;

-- Replay only (meta kind = replay): a variant of the step that was measured.
CREATE TABLE arm (
  id           INTEGER PRIMARY KEY, -- in order of execution, from 1: the baseline
  name         TEXT NOT NULL UNIQUE, -- baseline, prefetch, null, useless, hot, overlap, prefetch-1 ...
  counted      INTEGER NOT NULL,   -- samples that count
  pairs        INTEGER NOT NULL,   -- of these, how many have a counted sample of the baseline in their pass
  step_ns      REAL,               -- median of the counted samples; NULL: none
  step_ns_low  REAL,               -- its interval; NULL from too few samples
  step_ns_high REAL,               -- its interval
  speedup      REAL,               -- median of the pairs' ratios baseline/arm; NULL for the baseline and without a pair
  speedup_low  REAL,               -- its interval; NULL from too few pairs
  speedup_high REAL,               -- its interval
  issued_bytes REAL NOT NULL       -- fetched per step and rank before the window ended, mean of the counted samples
) STRICT;

-- Replay only: one row, what the replay found (of apply.db: the program itself; docs/formats.md). Ratios are not rounded. Intervals are those of the
-- sign test at the confidence level (docs/metrics.md).
CREATE TABLE result (
  passes            INTEGER NOT NULL, -- over all arms, the discarded first one included
  steps_per_sample  INTEGER NOT NULL, -- consecutive steps that a sample is the mean of
  confidence_level  REAL NOT NULL, -- of every interval
  stop_reason       TEXT,          -- precise, time-limit, pair-limit
  busy              INTEGER NOT NULL CHECK (busy IN (0, 1)), -- 1: ranks lost their cores, or shared their GPU, during
                                   -- most of the counted samples, so the verdict is AMBG
  verdict           TEXT NOT NULL, -- of arm prefetch: FAST, SAME, SLOW, AMBG
  winner            TEXT,          -- with --candidates: among the plans whose interval lies above 1 the one whose
                                   -- interval begins highest, else baseline
  overlap_ratio      REAL,         -- median paired ratio of the steps overlap/prefetch; above 1, prefetching is faster
  overlap_ratio_low  REAL,         -- its interval; NULL from too few pairs
  overlap_ratio_high REAL,         -- its interval
  ranks             INTEGER NOT NULL, -- replayed
  recorded_ranks    INTEGER NOT NULL, -- of the recording; more than ranks where stand-ins replace the others
  link_latency_ns   INTEGER NOT NULL, -- of the stand-in for a network link, per collective; 0: none
  planned_bytes     INTEGER NOT NULL, -- prefetched per step and rank by the plan
  recorded_step_ns  INTEGER NOT NULL, -- slowest rank (on one GPU for many ranks the planned one), link included
  fidelity          REAL,          -- replayed baseline / recorded step
  fidelity_op_median REAL,         -- replayed / recorded time of the operators that are not collectives, all ranks
  fidelity_op_p10   REAL,          -- 10th percentile of these
  fidelity_op_p90   REAL,          -- 90th percentile
  fidelity_op_worst REAL,          -- the one farthest from 1
  fidelity_op_worst_name TEXT,     -- its operator
  predicted_speedup REAL NOT NULL, -- of the schedule; 1 when its verdict is do-nothing
  predicted_baseline_step_ns INTEGER NOT NULL, -- of the schedule
  predicted_prefetch_step_ns INTEGER NOT NULL, -- of the schedule
  prediction_error  REAL,          -- predicted / measured speed-up - 1; NULL from too few pairs
  predicted_saved_ns INTEGER NOT NULL, -- per step, sum over the plan
  realised_saved_ns INTEGER NOT NULL, -- per step, baseline minus prefetch arm of the operators that read
  collective_slowdown REAL,        -- time in the collectives that carry prefetches, prefetch arm / baseline, all ranks
  slowdown_per_byte_ns REAL        -- the same as added ns per prefetched byte
) STRICT;

-- Replay only: what must be known before its numbers are believed.
CREATE TABLE warning (
  id   INTEGER PRIMARY KEY,        -- in the order of printing
  text TEXT NOT NULL               -- a sentence
) STRICT;

-- Replay only: one measurement of one arm: the mean of a few consecutive steps (meta steps_per_sample).
CREATE TABLE sample (
  id        INTEGER PRIMARY KEY,   -- in order of execution
  arm_id    INTEGER NOT NULL REFERENCES arm (id), -- which variant
  pair      INTEGER NOT NULL,      -- samples of different arms with equal pair belong together
  position  INTEGER NOT NULL,      -- place in the interleaved order of that pair
  step_ns   INTEGER NOT NULL,      -- slowest rank, from a common start
  discarded TEXT                   -- NULL: counted; else why not: warm-up, throttled, interrupted, unpaired
) STRICT;

-- Replay only: time of each operator in each arm.
CREATE TABLE arm_op (
  arm_id    INTEGER NOT NULL REFERENCES arm (id), -- which variant
  rank      INTEGER NOT NULL,      -- whose operator
  ordinal   INTEGER NOT NULL,      -- position in the step, as in schedule.json
  name      TEXT NOT NULL,         -- operator
  median_ns INTEGER NOT NULL,      -- median over the counted samples
  mad_ns    INTEGER NOT NULL,      -- median absolute deviation
  samples   INTEGER NOT NULL,      -- how many
  PRIMARY KEY (arm_id, rank, ordinal)
) STRICT, WITHOUT ROWID;

-- Grid only (meta kind = grid): one generated decode step that was planned and replayed, or will be.
CREATE TABLE cell (
  id                INTEGER PRIMARY KEY, -- in the order of measuring
  model             TEXT NOT NULL,       -- name of the model's configuration
  ranks             INTEGER NOT NULL,    -- tensor-parallel ranks
  batch             INTEGER NOT NULL,    -- sequences decoded together
  context           INTEGER NOT NULL,    -- tokens per sequence in the KV-cache
  dtype             TEXT NOT NULL,       -- fp16, int8 or fp8: of weights and KV-cache
  status            TEXT NOT NULL
    CHECK (status = 'pending' OR status = 'done' OR status = 'not_available'
      OR status = 'failed'),             -- not_available: cannot be run, as a model that does not fit
  reason            TEXT,                -- why it is not available or failed
  collective        TEXT,                -- what carried it: mpi, mpi+link, nccl, stand-in, stand-in+link
  plan_verdict      TEXT,                -- of the schedule: prefetch or do-nothing
  strategy          TEXT,                -- that made the plan
  modelled_step_ns  INTEGER,             -- the generated step, link included
  predicted_step_ns INTEGER,             -- with the plan
  predicted_speedup REAL,                -- 1 when the plan does nothing
  all_hot_step_ns   INTEGER,             -- bound: everything cached
  window_limited_step_ns INTEGER,        -- bound: cache of any size, these windows
  cache_limited_step_ns INTEGER,         -- bound: this cache, windows of any length
  planned_bytes     INTEGER,             -- prefetched per step and rank by the plan
  issued_bytes      INTEGER,             -- of these, fetched before their window ended
  speedup           REAL,                -- measured, of the plan: median paired ratio baseline/prefetch
  speedup_low       REAL,                -- its interval; NULL from too few pairs
  speedup_high      REAL,                -- its interval
  verdict           TEXT,                -- FAST, SAME, SLOW, AMBG
  pairs             INTEGER,             -- counted
  busy              INTEGER,             -- 1: ranks lost their cores during most samples, no verdict
  choice            TEXT,                -- prefetch or do-nothing, decided by the measurement
  chosen_speedup    REAL,                -- speedup, or 1 when nothing is done
  fused_ratio       REAL,                -- median paired ratio overlap/prefetch: above 1, prefetching is faster
  fused_ratio_low   REAL,                -- its interval; NULL from too few pairs
  fused_ratio_high  REAL,                -- its interval
  fidelity          REAL,                -- replayed baseline / modelled step
  predicted_saved_ns INTEGER,            -- per step: sum over the plan
  realised_saved_ns INTEGER,             -- the same, measured at the operators that read
  dur_ns            INTEGER,             -- wall time that the cell took
  finished_at       TEXT,                -- UTC, as 2026-01-31T12:00:00Z
  UNIQUE (model, ranks, batch, context, dtype)
) STRICT;

-- Grid only: the arms of a cell that was replayed.
CREATE TABLE cell_arm (
  cell_id      INTEGER NOT NULL REFERENCES cell (id), -- the cell
  arm          TEXT NOT NULL,      -- baseline, prefetch, null, useless, hot, overlap
  step_ns      INTEGER NOT NULL,   -- median of the counted samples
  speedup      REAL,               -- median paired ratio baseline/arm; NULL for the baseline
  speedup_low  REAL,               -- its interval; NULL from too few pairs
  speedup_high REAL,               -- its interval
  PRIMARY KEY (cell_id, arm)
) STRICT, WITHOUT ROWID;

-- Explore only (meta kind = explore): one decode step on one device, planned and judged without a run. Values that
-- were not asked for are those in effect.
CREATE TABLE explore_cell (
  id                INTEGER PRIMARY KEY, -- place in the sweep from 1, the first axis outermost
  model             TEXT NOT NULL,       -- name of the model's configuration
  device            TEXT NOT NULL,       -- name in the device file
  dtype             TEXT NOT NULL,       -- of weights and KV-cache
  ranks             INTEGER NOT NULL,    -- tensor-parallel ranks
  batch             INTEGER NOT NULL,    -- sequences decoded together
  context           INTEGER NOT NULL,    -- tokens per sequence in the KV-cache
  kv_heads          INTEGER NOT NULL,    -- of the model, before division; 0: it has none
  cache_bytes       INTEGER NOT NULL,    -- of the device
  memory_bytes      INTEGER NOT NULL,    -- of the device; 0: not stated
  memory_bandwidth_bytes_per_s REAL NOT NULL, -- of the device
  arithmetic_per_s  REAL NOT NULL,       -- of the device, for dtype
  network_latency_ns REAL,               -- of an allreduce; NULL: the device's fits or a stated time
  network_bandwidth_bytes_per_s REAL,    -- of one device into the network; NULL likewise
  status            TEXT NOT NULL
    CHECK (status = 'done' OR status = 'not_available'
      OR status = 'failed'),             -- not_available: cannot be run, as a model that does not fit
  reason            TEXT,                -- why it is not available or failed
  attention_weight_bytes INTEGER NOT NULL, -- one rank, largest layer
  kv_bytes          INTEGER NOT NULL,    -- one rank, largest layer, whole batch
  mlp_bytes         INTEGER NOT NULL,    -- one rank, largest layer
  rank_bytes        INTEGER NOT NULL,    -- one rank, all layers: weights, head, embedding, KV
  workspace_bytes   INTEGER NOT NULL,    -- one rank: what a step needs beside them
  activation_bytes  INTEGER NOT NULL,    -- one rank: what a step keeps in the cache between operators
  allreduce_ns      REAL NOT NULL,       -- a layer's; 0 where there is none
  baseline_step_ns  REAL NOT NULL,       -- without prefetching; 0 unless done, as the following
  bfs_step_ns       REAL NOT NULL,       -- with the best plan of strategy bfs
  flow_step_ns      REAL NOT NULL,       -- with the best plan of strategy flow
  fused_step_ns     REAL NOT NULL,       -- without prefetching, products overlapped with their allreduces
  all_hot_step_ns   REAL NOT NULL,       -- bound: everything cached
  bfs_bytes         INTEGER NOT NULL,    -- fetched per step and rank
  flow_bytes        INTEGER NOT NULL,    -- fetched per step and rank
  area_mm2          REAL,                -- of one device, by the constants file
  cost              REAL                 -- of one device, by the constants file, in its currency
) STRICT;
