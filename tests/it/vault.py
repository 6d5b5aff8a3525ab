"""SSM and Secrets Manager on loopback that look at keys: tells where they are, and at the end what they were asked."""

import json
import os
import sys
import tempfile

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"
folder = tempfile.TemporaryDirectory()
os.environ["MOTO_RECORDER_FILEPATH"] = folder.name + "/recording"

import boto3
import requests
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"
place = {
    "endpoint_url": endpoint,
    "region_name": "us-east-1",
    "aws_access_key_id": "setup",
    "aws_secret_access_key": "setup",
}
ssm = boto3.client("ssm", **place)
for name, value in json.loads(sys.argv[1]).items():
    ssm.put_parameter(Name=name, Value=value, Type="SecureString")
secrets = boto3.client("secretsmanager", **place)
arn = secrets.create_secret(Name="minerva-contact", SecretString="soc@example.org")["ARN"]
iam = boto3.client("iam", **place)
actions = ["ssm:GetParametersByPath", "secretsmanager:GetSecretValue"]
statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
keys = {}
for user in ["reader", "stranger"]:
    iam.create_user(UserName=user)
    if user == "reader":
        iam.put_user_policy(UserName=user, PolicyName="reads", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
# From now on it wants keys.
requests.post(endpoint + "/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
requests.post(endpoint + "/moto-api/recorder/reset-recording", timeout=10).raise_for_status()
requests.post(endpoint + "/moto-api/recorder/start-recording", timeout=10).raise_for_status()
print(json.dumps({"endpoint": endpoint, "arn": arn, "keys": keys}), flush=True)
sys.stdin.read()
recorded = requests.get(endpoint + "/moto-api/recorder/download-recording", timeout=10).text
asked = [json.loads(line)["headers"]["X-Amz-Target"] for line in recorded.splitlines() if line]
print(json.dumps(asked), flush=True)
