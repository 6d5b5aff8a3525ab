"""PyMISP over the events of a folder, once for each line on standard input; one line of JSON answers each."""

import json
import pathlib
import sys
import time

from pymisp import MISPEvent

bodies = []
for path in pathlib.Path(sys.argv[1]).glob("*.json"):
    bodies.append(path.read_text(encoding="utf-8"))

for _ in sys.stdin:
    began = time.perf_counter()
    attributes = 0
    for text in bodies:
        body = json.loads(text)
        body = body.get("response", body) if isinstance(body, dict) else body
        event = MISPEvent()
        event.load(body[0] if isinstance(body, list) else body)
        attributes += len(event.attributes) + sum(len(one.attributes) for one in event.objects)
    print(json.dumps({"attributes": attributes, "s": time.perf_counter() - began}), flush=True)
