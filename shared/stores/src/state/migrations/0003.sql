-- One text for both databases.

CREATE INDEX runs_of_task ON runs (task, started_ms DESC);
CREATE INDEX runs_of_slot ON runs (task, slot_ms);

-- 1: not beside another invocation of its task.
ALTER TABLE invocations ADD COLUMN alone BIGINT NOT NULL DEFAULT 0;
CREATE INDEX invocations_of_task ON invocations (task, state);

-- Every instant at which the timetable fired, also where nothing was run.
CREATE TABLE slots (
    request_id TEXT PRIMARY KEY,    -- of its invocation
    task       TEXT NOT NULL,
    slot_ms    BIGINT NOT NULL,
    outcome    TEXT NOT NULL,       -- queued, missed, or as its run or its invocation ended
    reason     TEXT,                -- of a missed one
    noted_ms   BIGINT NOT NULL
);
CREATE INDEX slots_newest ON slots (slot_ms DESC);
CREATE INDEX slots_of_task ON slots (task, slot_ms DESC);
CREATE INDEX slots_of_outcome ON slots (outcome, slot_ms DESC);

-- Every process that was given an event.
CREATE TABLE attempts (
    request_id TEXT NOT NULL,
    attempt    BIGINT NOT NULL,
    task       TEXT NOT NULL,
    run_id     TEXT,
    started_ms BIGINT NOT NULL,
    ended_ms   BIGINT,
    outcome    TEXT NOT NULL,       -- running, interrupted, or the status of its report
    class      TEXT,
    error      TEXT,
    peak_kb    BIGINT,
    log        TEXT,                -- its last lines, for some days
    log_bytes  BIGINT NOT NULL DEFAULT 0, -- that it logged in all
    PRIMARY KEY (request_id, attempt)
);
CREATE INDEX attempts_newest ON attempts (started_ms DESC);
CREATE INDEX attempts_of_task ON attempts (task, started_ms DESC);
CREATE INDEX attempts_of_run ON attempts (run_id);
CREATE INDEX attempts_of_outcome ON attempts (outcome, started_ms DESC);
CREATE INDEX attempts_with_log ON attempts (started_ms) WHERE log IS NOT NULL;

-- What the visits of a source brought, by day (UTC).
CREATE TABLE source_days (
    source   TEXT NOT NULL,         -- family/id
    day      TEXT NOT NULL,
    visits   BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    new      BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    PRIMARY KEY (source, day)
);
CREATE INDEX source_days_by_day ON source_days (day);

-- Who runs the timetable here.
CREATE TABLE runners (
    name       TEXT PRIMARY KEY,    -- host and process id
    version    TEXT NOT NULL,
    workers    BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    ticked_ms  BIGINT NOT NULL
);
