"""plyara over the files of a folder, once for each line on standard input; one line of JSON answers each."""

import json
import pathlib
import sys
import time

import plyara

texts = [path.read_text("utf-8") for path in sorted(pathlib.Path(sys.argv[1]).iterdir())]

for line in sys.stdin:
    began = time.perf_counter()
    rules = sum(len(plyara.Plyara().parse_string(text)) for text in texts)
    print(json.dumps({"rules": rules, "s": time.perf_counter() - began}), flush=True)
