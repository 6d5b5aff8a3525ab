"""Python's sqlite3 over the documents of a folder, once for each word on standard input; one line of JSON answers each.

`fields` names the full-text fields, `<name>.jsonl` holds one document a line: its id, its body as text, its
full-text fields. `<name> create` writes them
into a new file, a thousand to a commit; `<name> again` reads each back and writes what differs, which is nothing.
"""

import json
import pathlib
import sqlite3
import sys
import time

BATCH = 1_000
folder = pathlib.Path(sys.argv[1])
TEXT_FIELDS = (folder / "fields").read_text().split()
# Ours needs it to delete from the full-text index; SQLite has it since 3.43.
DELETABLE = "contentless_delete=1," if sqlite3.sqlite_version_info >= (3, 43) else ""
columns = ", ".join(TEXT_FIELDS)
places = ", ".join("?" * (len(TEXT_FIELDS) + 1))
connections = {}


def opened(name):
    for old in folder.glob(f"{name}.db*"):
        old.unlink()
    connection = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
    connection.executescript(
        f"""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA cache_size = -16000;
        CREATE TABLE documents (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
        CREATE VIRTUAL TABLE words USING fts5(
            {columns}, content='', {DELETABLE} tokenize="unicode61 remove_diacritics 2");
        CREATE INDEX newest ON documents (json_extract(body, '$."published"') DESC, id);
        """
    )
    return connection


def documents(name):
    with open(folder / f"{name}.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def create(connection, rows):
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO documents (n, id, body) VALUES (?, ?, ?)",
            ((start + place + 1, id, body) for place, (id, body, _) in enumerate(batch)),
        )
        connection.executemany(
            f"INSERT INTO words (rowid, {columns}) VALUES ({places})",
            ((start + place + 1, *texts) for place, (_, _, texts) in enumerate(batch)),
        )
        connection.execute("COMMIT")


def again(connection, rows):
    differing = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        ids = json.dumps([id for id, _, _ in batch])
        connection.execute("BEGIN IMMEDIATE")
        stored = dict(
            connection.execute(
                "SELECT id, body FROM documents WHERE id IN (SELECT value FROM json_each(?))", (ids,)
            )
        )
        differing += sum(stored.get(id) != body for id, body, _ in batch)
        connection.execute("ROLLBACK")
    assert differing == 0, differing


for line in sys.stdin:
    name, what = line.split()
    rows = documents(name)
    if what == "create":
        connections[name] = opened(name)
    began = time.perf_counter()
    {"create": create, "again": again}[what](connections[name], rows)
    print(json.dumps({"documents": len(rows), "s": time.perf_counter() - began, "sqlite": sqlite3.sqlite_version}), flush=True)
