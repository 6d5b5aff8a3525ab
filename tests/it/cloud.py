"""EventBridge and Lambda on loopback, by moto, behind a door that counts, records and breaks; ends with its input.

Each line of input is a command as JSON, each answer one line. Requests are held against the services' own model in
botocore: types and required members are checked by any client, `min`, `max`, `pattern` and `enum` by the service alone.
"""

import io
import json
import os
import re
import sys
import threading
import time
import urllib.parse
import zipfile

import boto3
import botocore.session
import requests
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

READS = {"ListRules", "ListTagsForResource", "ListTargetsByRule", "GetFunctionConfiguration", "GetPolicy"}
models = {name: botocore.session.get_session().get_service_model(name) for name in ("events", "lambda")}


def operation_of(method, path, target):
    """The operation that a request is, its service, and the members that stand in its path."""
    if target:
        return "events", target.split(".")[-1], {}
    found = []
    for name in models["lambda"].operation_names:
        http = models["lambda"].operation_model(name).http
        template = http["requestUri"].split("?")[0]
        names = re.findall(r"{(\w+)}", template)
        pattern = re.sub(r"{(\w+)}", r"([^/]+)", template)
        match = re.fullmatch(pattern, path)
        if match and http["method"] == method:
            found.append((name, dict(zip(names, map(urllib.parse.unquote, match.groups())))))
    name, members = max(found, key=lambda one: len(one[1]))
    shape = models["lambda"].operation_model(name).input_shape
    by_location = {m.serialization.get("name", key): key for key, m in shape.members.items() if m.serialization.get("location") == "uri"}
    return "lambda", name, {by_location.get(key, key): value for key, value in members.items()}


def wrong(value, shape, where):
    """What the model does not take of a value."""
    kind, rule = shape.type_name, shape.metadata
    if kind == "structure":
        if not isinstance(value, dict):
            return [f"{where}: no structure"]
        found = [f"{where}: {name} is missing" for name in shape.required_members if name not in value]
        for key, one in value.items():
            if key not in shape.members:
                found.append(f"{where}: no member {key}")
            else:
                found += wrong(one, shape.members[key], f"{where}.{key}")
        return found
    if kind == "list":
        found = [w for n, one in enumerate(value) for w in wrong(one, shape.member, f"{where}[{n}]")]
        return found + outside(len(value), rule, where)
    if kind == "string":
        found = outside(len(value), rule, where)
        if "pattern" in rule and not re.fullmatch(rule["pattern"], value):
            found.append(f"{where}: {value!r} does not match {rule['pattern']}")
        if shape.enum and value not in shape.enum:
            found.append(f"{where}: {value!r} is none of {shape.enum}")
        return found
    if kind in ("integer", "long"):
        return outside(value, rule, where)
    return []


def outside(number, rule, where):
    if not rule.get("min", number) <= number <= rule.get("max", number):
        return [f"{where}: {number} is not in {rule.get('min')}-{rule.get('max')}"]
    return []


class Door:
    """Counts requests, keeps them, breaks chosen ones, and stops before one until its sender is gone."""

    def __init__(self, app):
        self.app, self.lock = app, threading.Lock()
        self.arm({})

    def arm(self, how):
        self.count, self.kept, self.wrong = 0, [], []
        self.answers = {int(n): status for n, status in how.get("answers", {}).items()}
        self.stop_at, self.folder = how.get("stop_at"), how.get("folder")

    def __call__(self, environ, start):
        agent = environ.get("HTTP_USER_AGENT", "")
        if "Boto" in agent or environ["PATH_INFO"].startswith("/moto-api"):
            return self.app(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        raw = environ.get("RAW_URI", environ["PATH_INFO"]).split("?")[0]
        service, name, members = operation_of(environ["REQUEST_METHOD"], raw, environ.get("HTTP_X_AMZ_TARGET"))
        with self.lock:
            self.count += 1
            number = self.count
        if number == self.stop_at:
            open(os.path.join(self.folder, "reached"), "w").close()
            while not os.path.exists(os.path.join(self.folder, "gone")):
                time.sleep(0.002)
            start("500 Gone", [])
            return [b""]
        if number in self.answers:
            status = self.answers[number]
            code = "ThrottlingException" if status == 429 else "InternalException"
            start(f"{status} X", [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)])
            return [json.dumps({"__type": code, "message": "planted"}).encode()]
        self.kept.append(name)
        value = {**(json.loads(body) if body else {}), **members}
        self.wrong += wrong(value, models[service].operation_model(name).input_shape, name)
        return self.app(environ, start)


door = Door(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", 0, door, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"
place = {"endpoint_url": endpoint, "region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
events, functions, iam = (boto3.client(name, **place) for name in ("events", "lambda", "iam"))


def fresh(command):
    requests.post(endpoint + "/moto-api/reset", timeout=10).raise_for_status()
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName="any", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bootstrap", "x")
    for name in command["functions"]:
        functions.create_function(FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=role, Code={"ZipFile": code.getvalue()})
    for name in command.get("foreign", []):
        events.put_rule(Name=name, ScheduleExpression="rate(5 minutes)")
    return {}


def dump(_):
    """All rules with their tags and targets, and who may start which function."""
    rules, page = {}, {}
    while True:
        answer = events.list_rules(**page)
        for rule in answer["Rules"]:
            tags = events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
            targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            told = {key: rule.get(key) for key in ("ScheduleExpression", "EventPattern", "State", "Description")}
            rules[rule["Name"]] = {**told, "tags": tags, "targets": targets}
        if "NextToken" not in answer:
            break
        page = {"NextToken": answer["NextToken"]}
    permissions = {}
    for function in functions.list_functions()["Functions"]:
        name = function["FunctionName"]
        try:
            policy = json.loads(functions.get_policy(FunctionName=name)["Policy"])
        except functions.exceptions.ResourceNotFoundException:
            continue
        told = [(one["Sid"], one["Condition"]["ArnLike"]["AWS:SourceArn"]) for one in policy["Statement"]]
        if told:
            permissions[name] = sorted(told)
    return {"rules": rules, "permissions": permissions}


def told(_):
    writes = [name for name in door.kept if name not in READS]
    return {"count": door.count, "writes": writes, "requests": door.kept, "wrong": door.wrong}


def arm(command):
    door.arm(command)
    return {}


def disable(command):
    events.disable_rule(Name=command["rule"])
    return {}


def check(command):
    """What the model says of one request, to see that it says something."""
    return wrong(command["value"], models["events"].operation_model(command["operation"]).input_shape, command["operation"])


commands = {"fresh": fresh, "dump": dump, "told": told, "arm": arm, "disable": disable, "check": check}
print(json.dumps({"endpoint": endpoint}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps(commands[command["do"]](command)), flush=True)
