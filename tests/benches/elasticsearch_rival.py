"""elasticsearch-py's `parallel_bulk` over the documents of a folder, once for each index named on standard input.

`url` names the server, `documents.jsonl` holds one document a line: its id and its body. They are read before the clock
starts, and created without a look at what is there. One line of JSON answers each name.
"""

import json
import pathlib
import sys
import time

from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk

BATCH = 2_500
folder = pathlib.Path(sys.argv[1])
client = Elasticsearch((folder / "url").read_text(), request_timeout=120)

with open(folder / "documents.jsonl", encoding="utf-8") as lines:
    documents = [json.loads(line) for line in lines]

for line in sys.stdin:
    index = line.strip()
    actions = ({"_op_type": "create", "_id": id, "_source": body} for id, body in documents)
    began, busy = time.perf_counter(), time.process_time()
    count = sum(ok for ok, _ in parallel_bulk(client, actions, chunk_size=BATCH, index=index))
    took, busy = time.perf_counter() - began, time.process_time() - busy
    assert count == len(documents), count
    print(json.dumps({"s": took, "cpu_s": busy}), flush=True)
