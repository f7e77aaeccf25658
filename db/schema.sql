-- SPDX-License-Identifier: Apache-2.0
-- trace.db (schema_2.sql adds what version 2 has besides). One file holds one run: a recorded program, a
-- replay of its schedule, or a grid of replays. Times are integer ns on CLOCK_MONOTONIC of the host, sizes integer bytes.
-- A fact that is not known is NULL, never 0. Nothing is changed after the file was closed.
-- Checks of three and more words are chains of OR: SQLite builds a temporary table for each row that an
-- IN of that many is checked for, which halves the speed of inserting.

-- Facts about the file itself: tool_version, clock, incomplete (0 or 1), finished (1), counters (dram,l2: a
-- recording of hardware counters, whose times are not the program's), notes of the producer.
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
  source        TEXT NOT NULL,     -- nvtx_mem, params, shapes, inferred, model
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
  source       TEXT NOT NULL,      -- range_name, params, shapes, inferred, model
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
    CHECK (source = 'nvtx' OR source = 'detected' OR source = 'replay'
      OR source = 'model') -- how it was found
) STRICT;

-- What happened to the records of each source: received = written + dropped + the other kinds.
CREATE TABLE loss (
  process_id INTEGER REFERENCES process (id), -- NULL: of the whole file
  source     TEXT NOT NULL,        -- nvtx, mpi, cupti, nccl, spool, import
  kind       TEXT NOT NULL,        -- received, written, dropped, zero_timestamp, unmatched, clipped, ...
  count      INTEGER NOT NULL      -- records
) STRICT;

-- Replay only: a variant of the step that was measured.
CREATE TABLE arm (
  id   INTEGER PRIMARY KEY,        -- this file's own number
  name TEXT NOT NULL UNIQUE        -- baseline, prefetch, null, useless, hot, overlap
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
