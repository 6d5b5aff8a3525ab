"""AWS on loopback, by MiniStack, which runs functions as processes of this machine; ends with its input.

Each line of input is a command as JSON, each answer one line. The first line is the environment that MiniStack and so
every function gets: it has no other way to tell a function where its stand-in for AWS is.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import zipfile

import boto3
from botocore.config import Config

REGION = "sa-east-1"
# A key of twelve digits is an account of its own.
ACCOUNT = "000000000000"
STARTS_WITHIN_S = 60


def started(environment):
    """A server that answers, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    own = {
        # Its own default is every address of the machine.
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "PATH": os.environ["PATH"],
        # A function's clients of AWS, whose endpoints Lambda never names.
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_SSM": endpoint,
    }
    program = os.path.join(os.path.dirname(sys.executable), "ministack")
    log = open(os.path.join(environment["HOME"], "ministack.log"), "wb")
    process = subprocess.Popen([program], env=own | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return process, endpoint
        time.sleep(0.05)
    raise SystemExit(f"MiniStack did not start: {process.poll()}")


def client(name, account=ACCOUNT):
    # An answer that was lost is no reason to send an event twice.
    return boto3.client(
        name,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=account,
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def listed(client, operation, key, **arguments):
    return [one for page in client.get_paginator(operation).paginate(**arguments) for one in page.get(key) or []]


def policy_of(functions, name):
    try:
        return json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"]
    except functions.exceptions.ResourceNotFoundException:
        return []


def seen(account=ACCOUNT):
    """Everything that a stack makes, by name."""
    events, functions, roles = client("events", account), client("lambda", account), client("iam", account)
    logs, queues, alarms = client("logs", account), client("sqs", account), client("cloudwatch", account)
    targets = lambda name: sorted(events.list_targets_by_rule(Rule=name)["Targets"], key=lambda one: one["Id"])
    kept = ("Role", "Runtime", "Handler", "Architectures", "Timeout", "MemorySize", "LoggingConfig", "CodeSha256", "Environment")
    document = lambda role, name: roles.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    attributes = lambda url: queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return {
        "rules": {
            rule["Name"]: {key: rule.get(key) for key in ("ScheduleExpression", "EventPattern", "State")} | {"Targets": targets(rule["Name"])}
            for rule in listed(events, "list_rules", "Rules")
        },
        "functions": {
            one["FunctionName"]: {key: one.get(key) for key in kept} | {"Policy": policy_of(functions, one["FunctionName"])}
            for one in listed(functions, "list_functions", "Functions")
        },
        "roles": {
            role["RoleName"]: {
                "Trust": role["AssumeRolePolicyDocument"],
                "Policies": {name: document(role["RoleName"], name) for name in roles.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]},
            }
            for role in listed(roles, "list_roles", "Roles")
        },
        "log_groups": {one["logGroupName"]: one.get("retentionInDays") for one in listed(logs, "describe_log_groups", "logGroups")},
        "filters": {one["filterName"]: one["filterPattern"] for one in listed(logs, "describe_metric_filters", "metricFilters")},
        "queues": {url: attributes(url).get("Policy") for url in listed(queues, "list_queues", "QueueUrls")},
        "alarms": {one["AlarmName"]: one["MetricName"] for one in listed(alarms, "describe_alarms", "MetricAlarms")},
        "stacks": sorted(
            one["StackName"]
            for one in listed(client("cloudformation", account), "list_stacks", "StackSummaries")
            if one["StackStatus"] != "DELETE_COMPLETE"
        ),
    }


def tap():
    """A queue that every continuation goes to, beside the functions."""
    events, queues = client("events"), client("sqs")
    url = queues.create_queue(QueueName="tap")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="tap", EventPattern=json.dumps({"source": ["minerva"]}))
    events.put_targets(Rule="tap", Targets=[{"Id": "tap", "Arn": arn}])
    return url


def untap(url):
    events, queues = client("events"), client("sqs")
    events.remove_targets(Rule="tap", Ids=["tap"])
    events.delete_rule(Name="tap")
    queues.delete_queue(QueueUrl=url)


def tapped(url):
    """The events that came there since it was asked last."""
    queues, found = client("sqs"), []
    while messages := queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"]))
            queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def invocations(group):
    """What each invocation of any function logged: MiniStack gives each a stream of its own."""
    streams = {}
    for one in listed(client("logs"), "filter_log_events", "events", logGroupName=group):
        streams.setdefault(one["logStreamName"], []).append(one["message"])
    return list(streams.values())


def make_functions(names, account):
    """Functions that are there already, whoever deployed them, and the address of a queue."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("bootstrap", "#!/bin/sh\n")
    functions, roles = client("lambda", account), client("iam", account)
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = roles.create_role(RoleName="functions", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    for name in names:
        functions.create_function(FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=role, Code={"ZipFile": archive.getvalue()})
    queues = client("sqs", account)
    url = queues.create_queue(QueueName="undelivered")["QueueUrl"]
    return queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def answer(command):
    match command.pop("do"):
        case "seen":
            return seen(**command)
        case "tap":
            return tap()
        case "untap":
            return untap(**command)
        case "tapped":
            return tapped(**command)
        case "invocations":
            return invocations(**command)
        case "make_functions":
            return make_functions(**command)
        case "call":
            result = getattr(client(command["service"]), command["operation"])(**command["with"])
            return {key: value for key, value in result.items() if key != "ResponseMetadata"}


process, endpoint = started(json.loads(sys.stdin.readline()))
try:
    print(json.dumps({"endpoint": endpoint}), flush=True)
    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Exception:
            told = {"failed": traceback.format_exc()}
        print(json.dumps(told, default=str), flush=True)
finally:
    # It and every function that it started.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
