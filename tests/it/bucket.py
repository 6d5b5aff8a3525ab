"""A bucket on loopback that looks at keys: puts the files of a folder into it, tells where it is, and ends with its input."""

import json
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"

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

iam = boto3.client("iam", **place)
iam.create_user(UserName="reader")
statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
feeds = ["s3:PutObject", "s3:DeleteObject"]
of_feeds = {"Effect": "Allow", "Action": feeds, "Resource": ["arn:aws:s3:::intel", "arn:aws:s3:::intel/feeds/*"]}
policy = json.dumps({"Version": "2012-10-17", "Statement": [statement, of_feeds]})
iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=policy)
key = iam.create_access_key(UserName="reader")["AccessKey"]

s3 = boto3.client("s3", **place)
s3.create_bucket(Bucket="intel")
# What a console leaves where a person makes a folder.
s3.put_object(Bucket="intel", Key="malpedia/families_enriched/", Body=b"")
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            key_of_file = "malpedia/" + os.path.relpath(path, sys.argv[1])
            s3.put_object(Bucket="intel", Key=key_of_file, Body=file.read())
# From now on it wants keys.
requests.post(endpoint + "/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
print(json.dumps({"endpoint": endpoint, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)
sys.stdin.read()
