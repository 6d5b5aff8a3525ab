"""ioc-finder over a text of a folder, named by each line on standard input; one line of JSON answers each."""

import json
import pathlib
import sys
import time

from ioc_finder import find_iocs

texts = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(sys.argv[1]).glob("*.txt")}

KINDS = {
    "ipv4s": "ipv4",
    "ipv4_cidrs": "cidr",
    "ipv6s": "ipv6",
    "domains": "domain",
    "urls": "url",
    "email_addresses": "email",
    "md5s": "md5",
    "sha1s": "sha1",
    "sha256s": "sha256",
    "sha512s": "sha512",
    "ssdeeps": "ssdeep",
    "imphashes": "imphash",
    "cves": "cve",
    "asns": "asn",
    "bitcoin_addresses": "btc",
    "registry_key_paths": "regkey",
    "file_paths": "filename",
}

for line in sys.stdin:
    text = texts.get(line.strip(), "warm 192.0.2.1")
    began = time.perf_counter()
    found = find_iocs(text)
    took = time.perf_counter() - began
    values = sorted({(kind, value) for theirs, kind in KINDS.items() for value in found.get(theirs, ())})
    print(json.dumps({"found": sum(map(len, found.values())), "values": values, "s": took}), flush=True)
