"""bibtexparser over the bibliography of a folder, once for each line on standard input; one line of JSON answers each."""

import json
import pathlib
import sys
import time

import bibtexparser
import bibtexparser.bparser

text = next(pathlib.Path(sys.argv[1]).glob("*.bib")).read_text(encoding="utf-8")

for _ in sys.stdin:
    began = time.perf_counter()
    # Malpedia's `@online` is not among BibTeX's own types, which it drops by itself.
    parser = bibtexparser.bparser.BibTexParser(ignore_nonstandard_types=False)
    entries = bibtexparser.loads(text, parser).entries
    titles = [entry.get("title", "").strip("{}") for entry in entries]
    print(json.dumps({"entries": len(titles), "s": time.perf_counter() - began}), flush=True)
