-- One text for both databases: a BIGINT is an INTEGER to SQLite.

-- What a run was asked for. The other column is no longer used, and stays for versions that still write it.
ALTER TABLE runs ADD COLUMN input TEXT;
ALTER TABLE runs ADD COLUMN checkpoint_input TEXT;

ALTER TABLE retries ADD COLUMN kind TEXT NOT NULL DEFAULT 'failed';   -- failed, rejected
ALTER TABLE retries ADD COLUMN at_ms BIGINT;                          -- when it was noted last

-- What each key of a pool has spent; a key is named by a reference, never by itself.
CREATE TABLE budgets (
    pool    TEXT NOT NULL,
    id      TEXT NOT NULL,
    span    TEXT NOT NULL,          -- the window that is counted, such as a local date
    spent   BIGINT NOT NULL,
    used_ms BIGINT NOT NULL,
    PRIMARY KEY (pool, id, span)
);

-- Keys that may not be used before an instant, in whatever window that is.
CREATE TABLE blocks (
    pool     TEXT NOT NULL,
    id       TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (pool, id)
);
