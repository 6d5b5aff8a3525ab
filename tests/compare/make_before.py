#!/usr/bin/env python3
"""Writes `tests/fixtures/stores/before/`: what a version of `local-runner` stored, for the trials of `tests/it/upgrade.rs`.

    tests/compare/make_before.py BINARY ES_URL DATABASE_URL

Runs the tasks of TASKS in two homes: an embedded one, and one on an empty Elasticsearch and an empty PostgreSQL. Both fetch
through a proxy of this script's own (`HTTPS_PROXY`), so that their addresses name no port: `http://upstream.test/…`. Writes

    settings.json        what the homes were set to, and which file each path of the upstream is
    upstream/, malpedia/ those of the files that are not in `tests/fixtures` anyway, and the folder of `MALPEDIA_DIR`
    embedded.tar.gz      `documents.db` and `state.db`
    elasticsearch.jsonl.gz  a line an index (its name, aliases, mappings and settings), then a line a document of it
    postgres.sql.gz      the schema and its rows, as `pg_dump --inserts` gives them

Run it with the version before a change that must read what it wrote, never with the version that makes the change.
Needs `pg_dump`; else Python's standard library alone.
"""

import gzip
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from upstream import FIXTURES, malpedia_files, signature_base  # noqa: E402

TARGET = FIXTURES / "stores" / "before"
ORIGIN = "http://upstream.test"
CLOCK = "2026-03-01T12:00:00Z"
PREFIX = "before-"
# Relative to `tests`, where the trials run, since the state holds it.
MALPEDIA_DIR = "fixtures/stores/before/malpedia"
# Rule files of signature-base: enough for every kind of rule, and small.
RULE_FILES = 12
FEEDS = {
    "cloudflare": "feed-rs/rss2/rss_2.0_cloudflare.xml",
    "debian": "feed-rs/rss1/rss_1.0_debian.xml",
    "dicas-l": "feed-rs/rss0/rss_0.91_encoding_1.xml",
    "reddit": "feed-rs/atom/atom_mediarss_reddit_1.xml",
    "daring-fireball": "feed-rs/jsonfeed/jsonfeed_example_1.json",
}
TASKS = ["collect_all_rss_feeds", "sync_malpedia_library_full", "sync_malpedia_all_to_es", "sync_signature_base_all"]


def small_tarball():
    """signature-base with few rule files and the beginning of each list."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(signature_base("a", RULE_FILES))) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith(".txt"):
                content = b"".join(content.splitlines(keepends=True)[:150])
            member.size = len(content)
            new.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return gzip.compress(packed.getvalue(), mtime=0)


def proxy(bodies):
    """Serves `bodies` by path on any port, with a validator each, whatever host is asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = bodies.get(self.path.removeprefix(ORIGIN))
            self.send_response_only(404 if body is None else 200)
            if body is not None:
                self.send_header("etag", f'"{len(body)}"')
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def ask(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def elasticsearch(url):
    """Every index of the prefix, as lines."""
    ask(f"{url}/{PREFIX}*/_refresh", "POST")
    for name, index in sorted(ask(f"{url}/{PREFIX}*").items()):
        settings = index["settings"]["index"]
        # What the server adds by itself cannot be set.
        for key in ("creation_date", "uuid", "version", "provided_name", "routing"):
            settings.pop(key, None)
        documents, after = [], None
        while True:
            query = {"size": 1000, "sort": [{"id": "asc"}], "query": {"match_all": {}}} | ({"search_after": after} if after else {})
            hits = ask(f"{url}/{name}/_search", "POST", query)["hits"]["hits"]
            documents += [{"_id": hit["_id"], "_source": hit["_source"]} for hit in hits]
            if len(hits) < 1000:
                break
            after = hits[-1]["sort"]
        yield {"index": name, "aliases": index["aliases"], "mappings": index["mappings"], "settings": settings}
        yield from documents
        print(f"{name}: {len(documents)} documents", file=sys.stderr)


def main():
    binary, es_url, database_url = Path(sys.argv[1]).resolve(), sys.argv[2].rstrip("/"), sys.argv[3]
    shutil.rmtree(TARGET, ignore_errors=True)
    (TARGET / "upstream").mkdir(parents=True)
    (TARGET / "upstream" / "signature-base.tar.gz").write_bytes(small_tarball())
    for name, body in malpedia_files("a", families=16, actors=4).items():
        if "broken" not in name:
            path = TARGET / "malpedia" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    # By path: the file below `tests/fixtures`.
    files = {f"/feed/{name}": f"feeds/{file}" for name, file in FEEDS.items()} | {
        "/api/get/version": "malpedia/version.json",
        "/api/get/references": "malpedia/references.json",
        "/library/download": "malpedia/library.bib",
        "/feeds/rss/latest": "malpedia/latest.xml",
        "/signature-base.tar.gz": "stores/before/upstream/signature-base.tar.gz",
    }
    address = proxy({path: (FIXTURES / file).read_bytes() for path, file in files.items()})
    sources = "\n".join(f'[[source]]\nid = "{name}"\nname = "{name}"\nurl = "{ORIGIN}/feed/{name}"\ncategory = "news"\n' for name in FEEDS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sources.toml").write_text(sources)
        settings = {"MALPEDIA_URL": ORIGIN, "SIGNATURE_BASE_URL": f"{ORIGIN}/signature-base.tar.gz"}
        machine = {"HTTPS_PROXY": address, "RSS_SOURCES": str(folder / "sources.toml"), "MALPEDIA_DIR": MALPEDIA_DIR}
        servers = {"ES_URL": es_url, "ES_INDEX_PREFIX": PREFIX, "DATABASE_URL": database_url}
        for home, stores in (("embedded", {}), ("servers", servers)):
            environment = settings | machine | stores | {"MINERVA_DATA_DIR": str(folder / home), "MINERVA_CLOCK": CLOCK}
            for task in TASKS:
                ran = subprocess.run([binary, "run", task, "--json"], cwd=FIXTURES.parent, env=environment, capture_output=True, check=False)
                report = json.loads(ran.stdout)
                print(home, task, {name: report[name] for name in ("status", "found", "new", "rejected", "failed")}, file=sys.stderr)
                assert report["status"] == "complete" and ran.returncode == 0, ran
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in ("documents.db", "state.db"):
                database = sqlite3.connect(folder / "embedded" / name)
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.close()
                body = (folder / "embedded" / name).read_bytes()
                member = tarfile.TarInfo(name)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
        (TARGET / "embedded.tar.gz").write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in elasticsearch(es_url))
    (TARGET / "elasticsearch.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    dump = subprocess.run(["pg_dump", "--inserts", "--no-owner", "--no-privileges", database_url], capture_output=True, check=True).stdout
    # Without its schema's name, so that the search path decides; and without what only `psql` understands.
    dump = re.sub(rb"\bpublic\.(?=\w+\b)", b"", dump)
    left_out = (b"\\", b"SELECT pg_catalog.set_config('search_path'", b"COMMENT ON SCHEMA", b"--")
    dump = b"".join(line for line in dump.splitlines(keepends=True) if line.strip() and not line.startswith(left_out))
    (TARGET / "postgres.sql.gz").write_bytes(gzip.compress(dump, mtime=0))
    said = {"clock": CLOCK, "es_index_prefix": PREFIX, "origin": ORIGIN, "settings": settings | {"MALPEDIA_DIR": MALPEDIA_DIR}, "sources": sources, "tasks": TASKS, "upstream": files}
    (TARGET / "settings.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
