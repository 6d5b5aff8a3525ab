"""iocextract over a text of a folder, named by each line on standard input; one line of JSON answers each.

It is given line by line: its time grows with the square of a text.
"""

import json
import pathlib
import sys
import time

import iocextract

texts = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(sys.argv[1]).glob("*.txt")}
KINDS = {
    "ipv4": lambda line: iocextract.extract_ipv4s(line, refang=True),
    "ipv6": iocextract.extract_ipv6s,
    "url": lambda line: iocextract.extract_urls(line, refang=True),
    "email": lambda line: iocextract.extract_emails(line, refang=True),
    "md5": iocextract.extract_md5_hashes,
    "sha1": iocextract.extract_sha1_hashes,
    "sha256": iocextract.extract_sha256_hashes,
    "sha512": iocextract.extract_sha512_hashes,
}

for line in sys.stdin:
    lines = texts.get(line.strip(), "warm 192.0.2.1").splitlines()
    began = time.perf_counter()
    found = [value for line in lines for value in iocextract.extract_iocs(line, refang=True)]
    took = time.perf_counter() - began
    values = set()
    if line.strip() == "one":
        values = {(kind, value) for line in lines for kind, of in KINDS.items() for value in of(line)}
    print(json.dumps({"found": len(found), "values": sorted(values), "s": took}), flush=True)
