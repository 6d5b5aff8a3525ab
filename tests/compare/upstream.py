"""The upstream of the comparison: every bundled fixture on loopback, with ETags and 304, in two states.

Used by `compare.py` and by `make_before.py`. Standard library only.

State `a` is the fixtures as they are. State `b` is a day later: of each four feeds one has an edited item, one lost its
first item, one is cut off in the middle and one is unchanged; a few answer with an error status or a login page. Of
Malpedia and signature-base an item is edited, one removed and one malformed.

Feeds are served on 250 addresses of 127.0.0.0/8, since each host is asked at most twice a second.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
STATES = ("a", "b")
HOSTS = [f"127.0.0.{n}" for n in range(1, 251)]
LOGIN = b"<!DOCTYPE html><html><head><title>Log in</title></head><body></body></html>"
# Files beside the feeds that are none.
NO_FEEDS = {"differences.toml", "LICENSE", "LICENSE-MIT"}


def feeds():
    """Every bundled feed as (id, category, file), in the order of ids."""
    found = []
    root = FIXTURES / "feeds"
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not path.is_file() or path.name in NO_FEEDS or name.parts[0] == "expected":
            continue
        category = "-".join(name.parts[:-1])
        identity = re.sub(r"[^a-z0-9]+", "-", str(name.with_suffix("")).lower()).strip("-")
        suffix = path.suffix.lstrip(".").lower()
        found.append((identity if suffix == "xml" else f"{identity}-{suffix}", category, path))
    return found


def edited(body):
    """The text of the last title is another."""
    at = max(body.rfind(b"<title>"), body.rfind(b"<title "))
    end = body.find(b">", at)
    return body if at < 0 or end < 0 else body[: end + 1] + b"Revised: " + body[end + 1 :]


def shortened(body):
    """The first item is gone."""
    for start, end in ((b"<item", b"</item>"), (b"<entry", b"</entry>")):
        first = body.find(start)
        last = body.find(end, first)
        if first >= 0 and last >= 0:
            return body[:first] + body[last + len(end) :]
    return body


def cut_off(body):
    """Ends in the middle of what it says last."""
    return body[: max(1, len(body) * 3 // 4)]


CHANGES = (edited, shortened, cut_off, lambda body: body)
# What every fortieth feed answers in state `b` instead: (status, body).
ANSWERS = ((404, b""), (410, b""), (500, b""), (200, LOGIN), (200, b""))


def changed_feed(number, body):
    if number % 40 == 39:
        return ANSWERS[number // 40 % len(ANSWERS)]
    return 200, CHANGES[number % 4](body)


def family(n, revised=""):
    """A file of `families_enriched` in one of the shapes that such files have."""
    url, rule = f"https://malpedia.test/details/win.family_{n}", f"rule f_{n} {{ condition: false }}"
    shape = n % 4
    if shape == 0:
        body = {
            "name": f"win.family_{n}", "url": url, "os": "Windows", "aka": [f"Family {n}"], "actors": ["MuddyWater"],
            "yara_rules": [{"nome": f"f_{n}", "url": None, "conteudo": rule}], "descricao": "Descrição\r\ncom acentos" + revised,
            "referencias": [{"desc": "A report", "url": "https://vendor.test/r"}, {"desc": "x", "url": None}], "update": "2024-03-09",
        }
    elif shape == 1:
        body = {"name": f"Family {n}", "url": url, "os": None, "aka": None, "explicacao": "texto" + revised, "referencias": ["https://vendor.test/s"]}
    elif shape == 2:
        body = {"name": f" win.family_{n} ", "aka": "One, Two" + revised, "yara_rules": [rule], "os": ["Windows"]}
    else:
        body = {"common_name": f"Family {n}", "url": url, "alt_names": ["A", "B"], "description": "text" + revised}
    text = json.dumps(body, ensure_ascii=False)
    return (f"\ufeff{text}\r\n" if n % 7 == 0 else text).encode()


def actor(n, revised=""):
    return json.dumps({
        "name": f"Actor {n}", "country": "XX", "synonyms": [f"G{n:04}"], "families": [f"win.family_{n * 4}", f"win.family_{n * 4 + 1}"],
        "urls": [f"https://malpedia.test/actor/actor_{n}", "https://e.test"], "description": "text" + revised,
    }).encode()


def malpedia_files(state, families=24, actors=6):
    """The folder of `MALPEDIA_DIR`, by path."""
    files = {f"families_enriched/family {n}.json": family(n) for n in range(families)}
    files |= {f"actors_enriched/Actor {n}.json": actor(n) for n in range(actors)}
    files["families_enriched/broken from the start.json"] = b'{"name": '
    if state == "b":
        files["families_enriched/family 4.json"] = family(4, " revised")
        files["families_enriched/family 5.json"] = family(5, " revised")
        files["families_enriched/family 9.json"] = b'{"name": "Family 9'
        del files["families_enriched/family 8.json"]
        files["families_enriched/family 100.json"] = family(100)
        files["actors_enriched/Actor 1.json"] = actor(1, " revised")
        del files["actors_enriched/Actor 2.json"]
    return files


def malpedia_api(state):
    """What Malpedia's server answers, by path; `yara` stands for every day after which rules are asked for."""
    root = FIXTURES / "malpedia"
    later = state == "b"
    families = {
        "win.vidar": {"common_name": "Vidar", "alt_names": [], "description": "A fork of Arkei.", "attribution": ["MuddyWater"], "urls": ["https://vendor.example/vidar"]},
        "win.papermill": {"common_name": "PAPERMILL", "alt_names": ["mill"], "description": "Paper.", "urls": []},
        "elf.brass": {"common_name": "Brass Stealer", "alt_names": [], "description": "", "urls": []},
        "osx.odd": [1, 2],
    }
    actors = {
        "muddywater": {"value": "MuddyWater", "meta": {"country": "IR", "synonyms": ["Seedworm"]}, "families": {"win.vidar": {}}},
        "paper_falcon": {"value": "Paper Falcon", "meta": {"synonyms": ["PF-1"]}, "families": {}},
    }
    rules = {"tlp_white": {"win.vidar_auto.yar": "rule win_vidar_auto { condition: false }"}, "tlp_amber": [{"win.papermill_w0.yar": "rule papermill { condition: true }"}]}
    bibliography, latest = (root / "library.bib").read_bytes(), (root / "latest.xml").read_bytes()
    references = json.loads((root / "references.json").read_bytes())
    version = json.loads((root / "version.json").read_bytes())
    if later:
        families["win.vidar"]["description"] = "A fork of Arkei, revised."
        del families["elf.brass"]
        families["win.papermill"] = "no object"
        actors["muddywater"]["meta"]["synonyms"].append("Static Kitten")
        del actors["paper_falcon"]
        rules = {"tlp_white": {"win.vidar_w1.yar": "rule vidar_w1 { condition: win_vidar_auto }", "win.bad_w0.yar": "rule bad { condition: $gone }"}}
        version["version"] += 1
        bibliography = bibliography.replace(b"PAPERMILL FRAMEWORK", b"PAPERMILL FRAMEWORK, revised", 1)
        second, third, fourth = [match.start() for match in re.finditer(rb"^@", bibliography, re.M)][1:4]
        # The second entry is removed, the third lost its end.
        bibliography = bibliography[:second] + bibliography[third:fourth].rstrip().rstrip(b"}") + b"\n" + bibliography[fourth:]
        latest = edited(latest)
        references.pop(next(iter(references)))
    return {
        "/api/get/version": json.dumps(version).encode(),
        "/api/get/families": json.dumps(families).encode(),
        "/api/get/actors": json.dumps(actors).encode(),
        "/api/get/references": json.dumps(references).encode(),
        "yara": json.dumps(rules).encode(),
        "/library/download": bibliography,
        "/feeds/rss/latest": latest,
    }


def signature_base(state, most=None):
    """The tarball; in state `b` a rule file is edited, one removed, one malformed, and an indicator list is shortened."""
    body = (FIXTURES / "signature-base" / "sample.tar.gz").read_bytes()
    if state == "a" and most is None:
        return body
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(body)) as old, tarfile.open(fileobj=packed, mode="w") as new:
        rules = 0
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith(".yar"):
                rules += 1
                if most is not None and rules > most:
                    continue
                if state == "b" and rules == 1:
                    continue
                if state == "b" and rules == 2:
                    content = content.replace(b"description = \"", b"description = \"Revised: ", 1)
                if state == "b" and rules == 3:
                    content = content[: len(content) // 2]
            elif state == "b" and member.name.endswith("-iocs.txt"):
                lines = content.splitlines(keepends=True)
                content = b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :])
            member.size = len(content)
            new.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return gzip.compress(packed.getvalue(), mtime=0)


class Upstream:
    """The server; `state` says which of the two states it shows. `requests` holds (path, status) in order."""

    def __init__(self, port, hosts=None, only=None, rule_files=None):
        hosts = hosts or HOSTS
        self.state, self.requests, self.port = "a", [], port
        self.feeds = [feed for feed in feeds() if only is None or feed[0] in only]
        self.hosts, self.answers = hosts, {state: {} for state in STATES}
        for number, (identity, _, path) in enumerate(self.feeds):
            body = path.read_bytes()
            self.answers["a"][f"/feed/{identity}"] = (200, body)
            self.answers["b"][f"/feed/{identity}"] = changed_feed(number, body)
        for state in STATES:
            for path, body in malpedia_api(state).items():
                self.answers[state][path] = (200, body)
            self.answers[state]["/sample.tar.gz"] = (200, signature_base(state, rule_files))
        self.servers = [self.listen(host) for host in hosts]

    def listen(self, host):
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.split("?")[0]
                key = "yara" if path.startswith("/api/get/yara/after/") else path
                status, body = upstream.answers[upstream.state].get(key, (404, b""))
                etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                if status == 200 and self.headers.get("if-none-match") == etag:
                    status, body = 304, b""
                upstream.requests.append((path, status))
                self.send_response_only(status)
                if status in (200, 304):
                    self.send_header("etag", etag)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        server = Server((host, self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def origin(self):
        return f"http://{self.hosts[0]}:{self.port}"

    def sources(self):
        """The list for `RSS_SOURCES`."""
        rows = []
        for number, (identity, category, _) in enumerate(self.feeds):
            url = f"http://{self.hosts[number % len(self.hosts)]}:{self.port}/feed/{identity}"
            rows.append(f'[[source]]\nid = "{identity}"\nname = "{identity}"\nurl = "{url}"\ncategory = "{category}"\n')
        return "\n".join(rows)

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
