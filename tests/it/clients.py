"""Asks a runner as an AWS client does, and holds each answer against the model of the service that botocore carries.

Takes the runner's address. Every member of an answer must be in the model, of its type and within its range, every header
that AWS gives a meaning must be one of the model, and an error must be one that the operation declares, with its status.
Prints a JSON array of the cases; ends with an exception at the first answer that is none of the service's.
"""

import json
import sys

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

ORIGIN = sys.argv[1]
ACCOUNT = "arn:aws:lambda:us-east-1:123456789012:function:"
MEGABYTE = 1024 * 1024
# Headers of the service that are in no model: they are read by botocore itself.
COMMON = {"x-amzn-requestid", "x-amzn-errortype", "x-amzn-trace-id"}

session = botocore.session.Session()
session.set_credentials("local", "local")
config = Config(
    region_name="us-east-1",
    retries={"max_attempts": 0},
    read_timeout=30,
    # What is wrong on purpose is for the runner to refuse.
    parameter_validation=False,
)
clients = {
    name: session.create_client(name, endpoint_url=ORIGIN, config=config)
    for name in ("lambda", "events")
}
cases = []


def fits(value, shape, where):
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), f"{where}: {report.generate_report()}"


def headers_of(shape):
    members = shape.members.values() if shape is not None else ()
    return {
        member.serialization["name"].lower()
        for member in members
        if member.serialization.get("location") == "header"
    }


def ask(case, service, operation, status, kind=None, **parameters):
    """One call; `kind` is the error that must come of it. Gives the answer, its payload as bytes."""
    client = clients[service]
    model = client.meta.service_model.operation_model(operation)
    method = {"Invoke": "invoke", "PutEvents": "put_events"}[operation]
    try:
        answer = getattr(client, method)(**parameters)
        shape, told = model.output_shape, None
    except ClientError as error:
        answer = error.response
        told = answer["Error"]["Code"]
        shape = client.meta.service_model.shape_for_error_code(told)
        declared = {one.error_code: one for one in model.error_shapes}
        # A service may always answer with its common errors, which no operation declares.
        common = {"ValidationException", "UnknownOperationException", "ThrottlingException"}
        assert told in declared or (service == "events" and told in common), f"{case}: {told}"
        if told in declared:
            expected = declared[told].metadata["error"]["httpStatusCode"] if "error" in declared[told].metadata else 400
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == expected, f"{case}: {answer}"
        assert answer["Error"]["Message"], f"{case}: {answer}"
    meta = answer.pop("ResponseMetadata")
    assert (meta["HTTPStatusCode"], told) == (status, kind), f"{case}: {meta} {answer}"
    assert meta["RequestId"], f"{case}: {meta}"
    amazon = {name for name in meta["HTTPHeaders"] if name.startswith("x-amz")}
    unknown = amazon - headers_of(shape) - COMMON
    assert not unknown, f"{case}: headers {unknown}"
    if "Payload" in answer:
        answer["Payload"] = answer["Payload"].read()
    members = {name: value for name, value in answer.items() if name != "Error"}
    if told is None:
        fits(members, shape, case)
    elif shape is not None:
        # `Message` stands in `Error` too; of the model are those that it names.
        fits({name: value for name, value in members.items() if name in shape.members}, shape, case)
    cases.append(case)
    return answer


def invoke(case, status=200, kind=None, payload=b'{"hello":"world"}', name="echo", **further):
    return ask(case, "lambda", "Invoke", status, kind, FunctionName=name, Payload=payload, **further)


plain = invoke("sync")
assert json.loads(plain["Payload"]) == {"hello": "world"} and plain["StatusCode"] == 200, plain
assert plain["ExecutedVersion"] == "$LATEST" and "FunctionError" not in plain, plain
for word, name in {
    "qualified": "echo:$LATEST",
    "partial ARN": "123456789012:function:echo",
    "ARN": ACCOUNT + "echo",
    "qualified ARN": ACCOUNT + "echo:$LATEST",
}.items():
    assert json.loads(invoke(word, name=name)["Payload"]) == {"hello": "world"}
invoke("qualifier", Qualifier="$LATEST")
invoke("qualifiers that differ", 400, "InvalidParameterValueException", name="echo:$LATEST", Qualifier="other")
invoke("empty payload", payload=b"")
invoke("context", ClientContext="eyJjdXN0b20iOnsiYSI6IjEifX0=")
tail = invoke("tail", LogType="Tail", payload=b'{"do":"print"}')
assert tail["LogResult"], tail
assert invoke("event", 202, InvocationType="Event")["StatusCode"] == 202
assert invoke("dry run", 204, InvocationType="DryRun")["StatusCode"] == 204

failed = invoke("function error", payload=b'{"do":"fail"}', LogType="Tail")
assert failed["FunctionError"] == "Unhandled" and failed["LogResult"], failed
assert json.loads(failed["Payload"])["errorType"] == "Function.Upstream", failed
for word, payload in {"panic": b'{"do":"panic"}', "exit": b'{"do":"exit"}'}.items():
    assert invoke(word, payload=payload)["FunctionError"] == "Unhandled"
timed = invoke("timeout", payload=b'{"do":"sleep","ms":60000}', name="hasty")
assert timed["FunctionError"] == "Unhandled" and b"timed out" in timed["Payload"], timed
large = invoke("answer too large", payload=b'{"do":"big","bytes":7000000}')
assert json.loads(large["Payload"])["errorType"] == "Function.ResponseSizeTooLarge", large

invoke("no such function", 404, "ResourceNotFoundException", name="nothing")
invoke("no such function, event", 404, "ResourceNotFoundException", name="nothing", InvocationType="Event")
invoke("no JSON", 400, "InvalidRequestContentException", payload=b"{no")
invoke("no such type", 400, "InvalidParameterValueException", InvocationType="Maybe")
invoke("too large", 413, "RequestTooLargeException", payload=b'"' + b"x" * 6 * MEGABYTE + b'"')
invoke("event too large", 413, "RequestTooLargeException", payload=b'"' + b"x" * MEGABYTE + b'"', InvocationType="Event")


def entry(**changed):
    whole = {"Source": "minerva", "DetailType": "Minerva Task Continuation", "Detail": '{"a":1}'}
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def put(case, entries, status=200, kind=None):
    return ask(case, "events", "PutEvents", status, kind, Entries=entries)


good = put("events", [entry(), entry(Time=1772366400, Resources=["arn:aws:s3:::a"])])
assert good["FailedEntryCount"] == 0 and all(one["EventId"] for one in good["Entries"]), good
mixed = put("events, one of them wrong", [entry(Detail="{no"), entry(), entry(Source=None)])
assert [one.get("ErrorCode") for one in mixed["Entries"]] == ["MalformedDetail", None, "InvalidArgument"], mixed
put("no events", [], 400, "ValidationException")
put("too many events", [entry()] * 11, 400, "ValidationException")
print(json.dumps(cases))
