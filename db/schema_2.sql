-- SPDX-License-Identifier: Apache-2.0
-- What schema version 2 added to version 1 (schema.sql). A new file gets both; a file of version 1 gets
-- this when it is opened, in memory.

-- Matrix products: activations (m x k) by weights (n x k), the output is m x n.
CREATE TABLE gemm (
  op_id  INTEGER PRIMARY KEY REFERENCES op (id), -- the operator
  m      INTEGER NOT NULL CHECK (m > 0), -- rows of the activations: tokens or sequences
  n      INTEGER NOT NULL CHECK (n > 0), -- rows of the weights: output features
  k      INTEGER NOT NULL CHECK (k > 0), -- columns of both: input features
  dtype  TEXT,                     -- elements of the weights: fp64, fp32, fp16, bf16, fp8, int8
  source TEXT NOT NULL             -- shapes (recorded by the framework), model
) STRICT;

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
