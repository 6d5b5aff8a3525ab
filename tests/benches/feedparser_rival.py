"""feedparser over the files of a folder, once for each word on standard input; one line of JSON answers each.

`default` parses as feedparser does by itself: relative links resolved, HTML sanitised. `bare` switches both off.
`entries` gives every entry's id, title and link, to compare what was read.
"""

import json
import pathlib
import sys
import time

import feedparser

bodies = [path.read_bytes() for path in sorted(pathlib.Path(sys.argv[1]).iterdir())]


def measured(**options):
    began = time.perf_counter()
    items = sum(len(feedparser.parse(body, **options).entries) for body in bodies)
    return {"items": items, "s": time.perf_counter() - began}


def entries():
    return [
        [entry.get("id"), entry.get("title"), entry.get("link")]
        for body in bodies
        for entry in feedparser.parse(body).entries
    ]


for line in sys.stdin:
    match line.strip():
        case "default":
            answer = measured()
        case "bare":
            answer = measured(sanitize_html=False, resolve_relative_uris=False)
        case "entries":
            answer = entries()
        case other:
            sys.exit(f"unknown word `{other}`")
    print(json.dumps(answer), flush=True)
