"""ioc-finder over a text of a folder, named by each line on standard input; one line of JSON answers each."""

import ipaddress
import json
import pathlib
import sys
import time

from ioc_finder import find_iocs

texts = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(sys.argv[1]).glob("*.txt")}

for line in sys.stdin:
    text = texts.get(line.strip(), "warm 192.0.2.1")
    began = time.perf_counter()
    found = find_iocs(text)
    took = time.perf_counter() - began
    values = set()
    for kind in ("md5s", "sha1s", "sha256s", "sha512s"):
        values.update(value.lower() for value in found.get(kind, ()))
    for kind in ("ipv4s", "ipv6s"):
        values.update(str(ipaddress.ip_address(value)) for value in found.get(kind, ()))
    print(json.dumps({"found": sum(map(len, found.values())), "values": sorted(values), "s": took}), flush=True)
