#!/usr/bin/env python3
"""Compares what two versions of `local-runner` report, store and remember over the bundled fixtures.

    tests/compare/compare.py OLD NEW [--keep FOLDER] [--feeds PATTERN] [--set NAME=VALUE] [--port PORT]

OLD and NEW are two `local-runner` binaries. Each runs every task twice, in two homes (Malpedia from its API, Malpedia
from a folder), then twice again after the upstream changed (`upstream.py` says how). OLD runs first, then NEW, with the
same ports, the same clock and settings, and folders of the same name. After each run these are read:

    exit       the exit code
    report     the JSON that the run printed
    requests   how often each path was asked, and with which status it was answered
    INDEX      every document of the index, as `local-runner documents INDEX` prints it
    writes     how often each index was written to (table `sequences` of `documents.db`)
    TABLE      every row of the table of `state.db`; of `runs` the newest

All of it is compared but for VOLATILE (ids and times of one run) and EXPECTED (what a change is meant to alter).
A row of the printed table is one run and one of these; it is `equal`, `expected` or `DIFFERENT` with its first difference.
Exit code: 0 everything is equal or expected, 1 something differs, 2 wrong usage.

Standard library only. The old binary is built from the commit to compare with: `git worktree add FOLDER COMMIT`, then
`cargo build -p local-runner` there.
"""

import argparse
import collections
import fnmatch
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from upstream import STATES, Upstream, malpedia_files  # noqa: E402

# The same for both binaries, since documents and state hold addresses.
PORT = 18473
TIMEOUT_S = 900
# When the files of `MALPEDIA_DIR` were written, in seconds since 1970.
FILE_TIME = 1_772_000_000

CATEGORIES = {"categories": ["feed-rs-rss2", "feedparser-illformed"]}
SPECIFIC = {"sources": ["feed-rs-rss2-rss-2-0-cloudflare", "feed-rs-rss2-rss-2-0-spiegel"]}
# Every task with its input. In state `b` they run in reverse, so that the wide ones meet the changes first.
TASKS = [
    ("collect_specific_sources", SPECIFIC),
    ("collect_category", CATEGORIES),
    # Refused, with the names that there are.
    ("collect_category", {"categories": ["no-such-category"]}),
    ("collect_all_rss_feeds", None),
    ("sync_malpedia_library_rss", None),
    ("sync_malpedia_library_bibtex", None),
    ("sync_malpedia_library_full", None),
    ("sync_malpedia_families_to_es", None),
    ("sync_malpedia_actors_to_es", None),
    ("sync_malpedia_all_to_es", None),
    ("sync_signature_base_iocs", None),
    ("sync_signature_base_yara", None),
    ("sync_signature_base_all", None),
    ("check_malpedia_status", None),
    ("get_malpedia_library_stats", None),
    ("get_signature_base_stats", None),
]
INDICES = [
    "rss_articles", "malpedia_library", "malpedia_families", "malpedia_actors", "cti_yara_rules", "signature_base_iocs",
    "cti_misp_iocs", "otx_indicators", "otx_pulses", "caveiratech_news",
]
# A clock for each pass: the passes of a state are an hour apart, the states a day.
CLOCKS = {"a1": "2026-03-01T12:00:00Z", "a2": "2026-03-01T13:00:00Z", "b1": "2026-03-02T12:00:00Z", "b2": "2026-03-02T13:00:00Z"}

# Fields and columns of one run: random ids, and times by the machine's clock. Nothing else is left out.
VOLATILE = {"run_id", "request_id", "identity", "took_ms", "started_ms", "finished_ms"}
# Tables that count holders, not what a run achieved.
LEFT_OUT_TABLES = {"leases"}

ABSENT = "(absent)"

Expected = collections.namedtuple("Expected", "what path allows reason")
# What a change is meant to alter: `what` and `path` are regular expressions for the whole of the row's name and of the path
# within it (parts joined by `/`), `allows(old, new)` says whether these two values are the meant ones; an absent value is
# ABSENT. Each entry says why it is right. An entry that nothing met is reported, so that the list does not outlive its cause.
def is_hash(old, new):
    """A hash of a form that says which it is; values that hold a quotation mark have another digest in it."""
    return str(new).startswith("2:") and (new == f"2:{old}" or len(str(new)) == 66)


# What the second edition of the contract alters, against the commit before it.
EXPECTED = [
    Expected(r".*", r"[^/]+/owners/hashes/[^/]+", is_hash, "the form of hashes is versioned, and no two values share one"),
    Expected(r".*", r"[^/]+/content_hash", lambda old, new: len(str(old)) == len(str(new)) == 64, "the same form"),
    Expected(r"malpedia_.*", r"[^/]+/revision", lambda old, new: new < old, "a document that two owners give is written once, not twice"),
    Expected("writes", r"malpedia_[^/]+/writes", lambda old, new: new < old, "the same writes"),
    Expected("budgets|blocks", r"", lambda old, new: old is ABSENT and new == {}, "keys have budgets"),
    Expected("runs", r"[^/]+/(checkpoint_input|input)", lambda old, new: old is ABSENT, "a run keeps its input"),
    Expected("report|runs", r"(.*/)?detail(/quiet)?", lambda old, new: old in (ABSENT, None) and new in ([], {"quiet": []}), "the engine lists quiet sources for every family"),
    Expected("report|runs", r"(.*/)?notes/[0-9]+", lambda old, new: str(new) == str(old).replace("mended:", "repaired:"), "one word for it"),
    Expected("report|runs", r"(.*/)?sources/[0-9]+/outcome", lambda old, new: (old, new) == ("read", "unchanged"), "the list of references is a source of its own"),
    Expected("report|runs", r"(.*/)?detail/sources.*", lambda old, new: True, "the status lists the references and the passes as sources"),
    Expected("sources", r"[^/]+/[^/]+/state/(etag|last_modified|url)", lambda old, new: new is ABSENT, "validators by address"),
    Expected("sources", r"[^/]+/[^/]+/state/(validators|stores)(/.*)?", lambda old, new: old is ABSENT, "validators by address, and the store that they are of"),
    Expected("sources", r"malpedia/(families|actors)/state/cursor/rows/.+/(m|s|i|n|l)(/[0-9]+)?", lambda old, new: new is ABSENT, "stored JSON has words as keys"),
    Expected("sources", r"malpedia/(families|actors)/state/cursor/rows/.+/(modified_ms|size|id|name|links)(/[0-9]+)?", lambda old, new: old is ABSENT, "stored JSON has words as keys"),
    Expected("sources", r"malpedia/references(/.*)?", lambda old, new: old is ABSENT, "the list of references is a source of its own"),
    Expected("sources", r"malpedia/rules/state/cursor/(held|files|counts.*)", lambda old, new: True, "an emptied store is noticed by its identity, not by a count"),
    Expected("sources", r"[^/]+/[^/]+/state/cursor/(families|rules)", lambda old, new: True, "fewer writes are counted"),
]



def settled(value):
    """The value without what is volatile; JSON within a text becomes a value of its own.

    A report shows its first rejects in the order in which sources that are visited at once came to an end. They are sorted;
    where there are more than it shows, which ones it shows is chance, and only the numbers are compared.
    """
    if isinstance(value, dict):
        kept = {key: settled(part) for key, part in value.items() if key not in VOLATILE}
        rejects = kept.get("rejects")
        if isinstance(rejects, list):
            is_all = isinstance(kept.get("rejected"), int) and kept["rejected"] <= len(rejects)
            kept["rejects"] = sorted(rejects, key=json.dumps) if is_all else f"{len(rejects)} of {kept.get('rejected')}"
        return kept
    if isinstance(value, list):
        return [settled(part) for part in value]
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return settled(json.loads(value))
        except ValueError:
            return value
    return value


def differences(old, new, path=""):
    """Every (path, old, new) at which two values differ."""
    if type(old) is type(new) is dict:
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}/{key}" if path else key)
    elif type(old) is type(new) is list and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new)):
            yield from differences(one, other, f"{path}/{number}" if path else str(number))
    elif old != new or type(old) is not type(new):
        yield path, old, new


class Kept:
    """Values on disk, compressed, each distinct one once."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, value):
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        name = hashlib.sha256(text).hexdigest()
        path = self.folder / name
        if not path.exists():
            path.write_bytes(zlib.compress(text, 1))
        return name

    def get(self, name):
        return json.loads(zlib.decompress((self.folder / name).read_bytes()))


class Home:
    """A fresh folder, and the binary in a clean environment."""

    def __init__(self, binary, folder, upstream, has_files, settings):
        self.binary, self.folder, self.has_files = binary, folder, has_files
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "sources.toml").write_text(upstream.sources())
        self.environment = {
            "MINERVA_DATA_DIR": str(folder / "data"),
            "MINERVA_ALLOW_NETS": "127.0.0.0/8",
            "RSS_SOURCES": str(folder / "sources.toml"),
            "MALPEDIA_URL": upstream.origin(),
            "SIGNATURE_BASE_URL": f"{upstream.origin()}/sample.tar.gz",
            **({"MALPEDIA_DIR": str(folder / "malpedia")} if has_files else {}),
            **settings,
        }

    def show(self, state):
        """Writes the folder of `MALPEDIA_DIR` as it is in this state."""
        if self.has_files:
            shutil.rmtree(self.folder / "malpedia", ignore_errors=True)
            for name, body in malpedia_files(state).items():
                path = self.folder / "malpedia" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
                # A file's time is part of the state: one that changed in state `b` has a later one.
                changed = 86_400 if body != malpedia_files("a").get(name) else 0
                os.utime(path, (FILE_TIME + changed,) * 2)

    def command(self, *arguments, clock=None):
        environment = self.environment | ({"MINERVA_CLOCK": clock} if clock else {})
        return subprocess.run(
            [self.binary, *arguments], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )

    def documents(self, index):
        """Every document of an index by its id; how often the id came is in the key, so that a doubled one differs."""
        ran = self.command("documents", index)
        if ran.returncode != 0:
            return {"error": ran.stderr.decode(errors="replace")}
        found = {}
        for line in ran.stdout.decode("utf-8", "surrogatepass").splitlines():
            document = json.loads(line)
            key = document["id"]
            while key in found:
                key += " again"
            found[key] = document
        return found

    def tables(self):
        """Every table of the state, and the count of writes of the documents."""
        found = {}
        for file, wanted in (("state.db", None), ("documents.db", {"sequences"})):
            if not (self.folder / "data" / file).exists():
                found[file] = {"error": "no such file"}
                continue
            database = sqlite3.connect(self.folder / "data" / file)
            database.row_factory = sqlite3.Row
            names = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
            for name in names:
                if (wanted is None or name in wanted) and name not in LEFT_OUT_TABLES:
                    found["writes" if name == "sequences" else name] = self.rows(database, name)
            database.close()
        return found

    @staticmethod
    def rows(database, table):
        """The rows by their key; where the key is volatile, as of runs, the newest row by its number: the others were compared before."""
        keys = [row["name"] for row in database.execute(f'PRAGMA table_info("{table}")') if row["pk"]]
        rows = [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')]
        if not keys or VOLATILE & set(keys):
            return {f"{len(rows):04}": settled(row) for row in rows[-1:]}
        return {" ".join(str(row[key]) for key in keys): settled(row) for row in rows}


def run_all(binary, folder, kept, feeds, settings, port):
    """Every run of one binary: {(home, pass, number, task): {what: name of the value}}."""
    upstream = Upstream(port, only=feeds)
    results = {}
    try:
        for place, has_files in (("api", False), ("files", True)):
            home = Home(binary, folder / place, upstream, has_files, settings)
            for state in STATES:
                upstream.state = state
                home.show(state)
                for repeated in (1, 2):
                    tasks = TASKS if state == "a" else TASKS[::-1]
                    for number, (task, given) in enumerate(tasks):
                        upstream.requests.clear()
                        arguments = ["run", task, "--json"] + (["--input", json.dumps(given)] if given else [])
                        ran = home.command(*arguments, clock=CLOCKS[f"{state}{repeated}"])
                        try:
                            report = settled(json.loads(ran.stdout))
                        except ValueError:
                            report = {"out": ran.stdout.decode(errors="replace"), "err": ran.stderr.decode(errors="replace")}
                        requests = collections.Counter(f"{status} {path}" for path, status in upstream.requests)
                        values = {"exit": ran.returncode, "report": report, "requests": dict(sorted(requests.items()))}
                        values |= {index: home.documents(index) for index in INDICES}
                        values |= home.tables()
                        results[place, f"{state}{repeated}", number, task] = {what: kept.put(value) for what, value in values.items()}
                        print(f"  {place} {state}{repeated} {task}: exit {ran.returncode}", file=sys.stderr)
    finally:
        upstream.stop()
    return results


def short(value):
    text = json.dumps(value, ensure_ascii=False) if value is not ABSENT else ABSENT
    return text if len(text) <= 100 else text[:100] + "…"


def compare(old, new, kept):
    """Prints a row for each run and kind that is not equal, and sums; gives the number of unexpected differences."""
    used, unexpected, counts = collections.Counter(), 0, collections.Counter()
    per_task = collections.defaultdict(collections.Counter)
    print(f"{'home':5} {'pass':4} {'task':30} {'what':20} result")
    for run in sorted(old.keys() | new.keys(), key=lambda run: run[:3]):
        place, when, _, task = run
        before, after = old.get(run, {}), new.get(run, {})
        for what in [*before, *(name for name in after if name not in before)]:
            one, other = before.get(what), after.get(what)
            if one == other:
                counts["equal"] += 1
                per_task[task]["equal"] += 1
                continue
            values = [ABSENT if name is None else kept.get(name) for name in (one, other)]
            found, excused, first = 0, 0, None
            for path, left, right in differences(*values):
                found += 1
                entry = next((e for e in EXPECTED if re.fullmatch(e.what, what) and re.fullmatch(e.path, path) and e.allows(left, right)), None)
                if entry:
                    excused += 1
                    used[entry] += 1
                elif first is None:
                    first = f"`{path}`: {short(left)} -> {short(right)}"
            verdict = "expected" if found and found == excused else "DIFFERENT"
            counts[verdict] += 1
            per_task[task][verdict] += 1
            if verdict == "DIFFERENT":
                unexpected += 1
                # Values that differ in nothing but the order of their keys have no path.
                first = first or "the order of keys"
            print(f"{place:5} {when:4} {task:30} {what:20} {verdict} ({found} values, {excused} expected){f'; first {first}' if first else ''}")
    print(f"\n{'task':30} {'equal':>6} {'expected':>9} {'DIFFERENT':>10}")
    for task in dict.fromkeys(task for task, _ in TASKS):
        row = per_task[task]
        print(f"{task:30} {row['equal']:6} {row['expected']:9} {row['DIFFERENT']:10}")
    print(f"{'all':30} {counts['equal']:6} {counts['expected']:9} {counts['DIFFERENT']:10}")
    for entry in EXPECTED:
        print(f"expected {used[entry]} times: {entry.what} {entry.path}: {entry.reason}")
        if not used[entry]:
            print("  nothing met it: take it out")
    return unexpected


def sizes(results, kept):
    """What the last run left, so that a comparison of nothing with nothing is seen."""
    for place in ("api", "files"):
        last = [values for run, values in results.items() if run[0] == place][-1]
        filled = {what: len(kept.get(last[what])) for what in [*INDICES, "sources", "retries"] if what in last}
        print(f"{place}: " + ", ".join(f"{what} {count}" for what, count in filled.items() if count))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here and leave everything for a look")
    parser.add_argument("--feeds", metavar="PATTERN", help="only feeds whose id matches, as `feed-rs-*` [default: all]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a further setting for NEW alone, to see that a difference is found")
    parser.add_argument("--port", type=int, default=PORT, help="of the upstream, on 127.0.0.1 to 127.0.0.250 [default: %(default)s]")
    arguments = parser.parse_args()
    for binary in (arguments.old, arguments.new):
        if not os.access(binary, os.X_OK):
            parser.error(f"`{binary}` is no program")
    further = dict(part.split("=", 1) for part in arguments.set)
    feeds = None
    if arguments.feeds:
        from upstream import feeds as all_feeds

        feeds = {feed for feed, _, _ in all_feeds() if fnmatch.fnmatch(feed, arguments.feeds)}
    with tempfile.TemporaryDirectory(prefix="minerva-compare-") as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        kept = Kept(folder / "values")
        print("old", file=sys.stderr)
        old = run_all(arguments.old.resolve(), folder / "home", kept, feeds, {}, arguments.port)
        if arguments.keep:
            shutil.rmtree(folder / "home-of-old", ignore_errors=True)
            (folder / "home").rename(folder / "home-of-old")
        print("new", file=sys.stderr)
        # In the same folder: settings and errors name it.
        new = run_all(arguments.new.resolve(), folder / "home", kept, feeds, further, arguments.port)
        unexpected = compare(old, new, kept)
        sizes(old, kept)
    print("equal" if not unexpected else f"{unexpected} unexpected differences")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
