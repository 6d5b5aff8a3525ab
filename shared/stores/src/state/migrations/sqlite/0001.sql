CREATE TABLE runs (
    run_id      TEXT PRIMARY KEY,
    task        TEXT NOT NULL,
    identity    TEXT NOT NULL,
    slot_ms     INTEGER,
    request_id  TEXT,
    status      TEXT NOT NULL,      -- running, continuing, complete, partial, failed
    fence       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    checkpoint  TEXT,
    report      TEXT,
    started_ms  INTEGER NOT NULL,
    finished_ms INTEGER,
    UNIQUE (task, identity)
);
CREATE INDEX runs_newest ON runs (started_ms DESC);
CREATE INDEX runs_request ON runs (request_id);

CREATE TABLE leases (
    name  TEXT PRIMARY KEY,
    fence INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sources (
    name  TEXT PRIMARY KEY,         -- family/id
    state TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE overrides (
    family TEXT NOT NULL,
    id     TEXT NOT NULL,
    word   TEXT NOT NULL,
    PRIMARY KEY (family, id)
) WITHOUT ROWID;

CREATE TABLE retries (
    source   TEXT NOT NULL,
    id       TEXT NOT NULL,
    reason   TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (source, id)
) WITHOUT ROWID;

CREATE TABLE marks (
    row_name TEXT PRIMARY KEY,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE invocations (
    request_id TEXT PRIMARY KEY,
    task       TEXT NOT NULL,
    event      TEXT NOT NULL,
    due_ms     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    state      TEXT NOT NULL,       -- queued, running, done, dead
    error      TEXT
);
CREATE INDEX invocations_due ON invocations (state, due_ms);
