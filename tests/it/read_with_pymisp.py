"""Prints each attribute of the events that its arguments name as PyMISP reads them: file, type and value as JSON, a line each."""

import json
import sys

from pymisp import MISPEvent

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    body = body.get("response", body) if isinstance(body, dict) else body
    event = MISPEvent()
    event.load(body[0] if isinstance(body, list) else body)
    objects = [attribute for one in event.objects for attribute in one.attributes]
    for attribute in list(event.attributes) + objects:
        print(json.dumps([path, attribute.type, attribute.value, bool(attribute.to_ids)]))
