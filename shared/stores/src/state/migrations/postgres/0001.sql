-- JSON is kept as text, as in SQLite: JSONB refuses the escaped NUL that a source may send.
CREATE TABLE runs (
    number      BIGINT GENERATED ALWAYS AS IDENTITY,
    run_id      TEXT PRIMARY KEY,
    task        TEXT NOT NULL,
    identity    TEXT NOT NULL,
    slot_ms     BIGINT,
    request_id  TEXT,
    status      TEXT NOT NULL,      -- running, continuing, complete, partial, failed
    fence       BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    step        BIGINT NOT NULL,
    checkpoint  TEXT,
    report      TEXT,
    started_ms  BIGINT NOT NULL,
    finished_ms BIGINT,
    UNIQUE (task, identity)
);
CREATE INDEX runs_newest ON runs (started_ms DESC);
CREATE INDEX runs_request ON runs (request_id);
CREATE INDEX runs_orphaned ON runs (task) WHERE status IN ('running', 'continuing');

-- Who is at what: a run, a source, an invocation. A row that expired may be taken; its number then changes, and a sequence
-- never gives one twice, so that a row can be deleted without a former holder ever matching again.
CREATE SEQUENCE fences;
CREATE TABLE holds (
    name    TEXT COLLATE "C" PRIMARY KEY,
    fence   BIGINT NOT NULL,
    holder  TEXT NOT NULL,          -- program and process id: for people
    expires TIMESTAMPTZ NOT NULL    -- by this server's clock
);

CREATE TABLE sources (
    name  TEXT COLLATE "C" PRIMARY KEY, -- family/id; ordered by bytes, as SQLite does
    state TEXT NOT NULL
);

CREATE TABLE overrides (
    family TEXT NOT NULL,
    id     TEXT COLLATE "C" NOT NULL,
    word   TEXT NOT NULL,
    PRIMARY KEY (family, id)
);

CREATE TABLE retries (
    source   TEXT NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    reason   TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (source, id)
);

CREATE TABLE marks (
    row_name TEXT PRIMARY KEY,
    until_ms BIGINT NOT NULL
);

CREATE TABLE invocations (
    number     BIGINT GENERATED ALWAYS AS IDENTITY,
    request_id TEXT PRIMARY KEY,
    task       TEXT NOT NULL,
    event      TEXT NOT NULL,
    due_ms     BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    state      TEXT NOT NULL,       -- queued, running, done, dead
    error      TEXT
);
CREATE INDEX invocations_due ON invocations (state, due_ms);
