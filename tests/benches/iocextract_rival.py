"""iocextract over a text of a folder, named by each line on standard input; one line of JSON answers each."""

import ipaddress
import json
import pathlib
import sys
import time

import iocextract

texts = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(sys.argv[1]).glob("*.txt")}


def address(text):
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


for line in sys.stdin:
    text = texts.get(line.strip(), "warm 192.0.2.1")
    began = time.perf_counter()
    found = list(iocextract.extract_iocs(text, refang=True))
    took = time.perf_counter() - began
    values = set()
    if line.strip() == "one":
        hexadecimal = set("0123456789abcdef")
        for value in found:
            value = value.lower()
            if len(value) in (32, 40, 64, 128) and set(value) <= hexadecimal:
                values.add(value)
            elif address(value):
                values.add(address(value))
    print(json.dumps({"found": len(found), "values": sorted(values), "s": took}), flush=True)
